import type { MatchExpression } from '../../shared/wire/messages/fields.ts';

export type Labels = Readonly<Record<string, string>>;

/** As Kubernetes has it: `NotIn` also holds for nodes without the key. */
export function matches(expression: MatchExpression, labels: Labels): boolean {
  const value = Object.hasOwn(labels, expression.key) ? labels[expression.key] : undefined;
  switch (expression.operator) {
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'In':
      return value !== undefined && wanted(expression).includes(value);
    case 'NotIn':
      return value === undefined || !wanted(expression).includes(value);
  }
}

/** Several expressions must all hold; none holds for every node. */
export function matchesAll(expressions: readonly MatchExpression[], labels: Labels): boolean {
  return expressions.every((expression) => matches(expression, labels));
}

/** Why the expression cannot be meant, or undefined: an `In` without values would silently select nobody. */
export function flawOf(expression: MatchExpression): string | undefined {
  const named = expression.value !== undefined || expression.values !== undefined;
  const valued = expression.operator === 'In' || expression.operator === 'NotIn';
  if (valued && wanted(expression).length === 0)
    return `operator ${expression.operator} needs value or values`;
  if (!valued && named) return `operator ${expression.operator} takes no value`;
  return undefined;
}

function wanted({ value, values }: MatchExpression): readonly string[] {
  return value === undefined ? (values ?? []) : [value, ...(values ?? [])];
}
