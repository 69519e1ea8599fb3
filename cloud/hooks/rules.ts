import type { HookRule } from '../config/hook-settings.ts';
import type { Push } from './pushes.ts';

/** The first rule that fits; undefined where none does. */
export function ruleFor(
  rules: readonly HookRule[],
  { repository, tag }: Pick<Push, 'repository' | 'tag'>,
): HookRule | undefined {
  return rules.find(
    (rule) =>
      matchesPattern(rule.repository, repository) &&
      (rule.tags === undefined || rule.tags.some((pattern) => matchesPattern(pattern, tag))),
  );
}

/**
 * `*` stands for anything but `/`, `**` for anything. Told step by step and not by a regular expression made of the
 * pattern: some of those take exponential time on a text that somebody chooses.
 */
export function matchesPattern(pattern: string, text: string): boolean {
  // reached[i]: the pattern up to here fits the first i characters.
  let reached: readonly boolean[] = Array.from({ length: text.length + 1 }, (_, index) => index === 0);
  for (const part of pattern.match(/\*\*+|\*|[^*]/g) ?? []) {
    const next: boolean[] = Array.from({ length: text.length + 1 }, () => false);
    for (let i = 0; i <= text.length; i++) {
      if (part.startsWith('*')) {
        const before = text[i - 1];
        next[i] =
          reached[i] === true || (i > 0 && next[i - 1] === true && (part.length > 1 || before !== '/'));
      } else {
        next[i] = i > 0 && reached[i - 1] === true && text[i - 1] === part;
      }
    }
    reached = next;
  }
  return reached[text.length] === true;
}
