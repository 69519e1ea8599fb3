/** As much of a Kubernetes structural schema as the project's CRD uses; rules in CEL are given as functions. */

type Fields = Readonly<Record<string, unknown>>;
/** Each rule of the CRD by its message. */
export type Rules = Readonly<Record<string, (self: Fields) => boolean>>;

/** What an API server would refuse, as `path: why`; unknown fields are told too, which a strict client refuses. */
export function schemaOffences(schema: unknown, value: unknown, rules: Rules, path = ''): string[] {
  const s = fields(schema);
  const bad = (why: string): string[] => [`${path}: ${why}`];
  if (s['x-kubernetes-int-or-string'] === true) {
    if (typeof value === 'number')
      return Number.isInteger(value) && value >= Number(s.minimum) ? [] : bad('number');
    return typeof value === 'string' && new RegExp(String(s.pattern)).test(value) ? [] : bad('text');
  }
  switch (s.type) {
    case 'object':
      return isFields(value) ? objectOffences(s, value, rules, path) : bad('no object');
    case 'array': {
      if (!Array.isArray(value)) return bad('no array');
      if (value.length < Number(s.minItems ?? 0)) return bad('too few');
      if (value.length > Number(s.maxItems ?? Number.POSITIVE_INFINITY)) return bad('too many');
      return value.flatMap((each, index) => schemaOffences(s.items, each, rules, `${path}[${index}]`));
    }
    case 'string': {
      if (typeof value !== 'string') return bad('no string');
      if (Array.isArray(s.enum) && !s.enum.includes(value)) return bad('not of the enum');
      if (value.length < Number(s.minLength ?? 0) || value.length > Number(s.maxLength ?? 1e9))
        return bad('length');
      return s.pattern === undefined || new RegExp(String(s.pattern)).test(value) ? [] : bad('pattern');
    }
    case 'boolean':
      return typeof value === 'boolean' ? [] : bad('no boolean');
    case 'integer':
    case 'number': {
      if (typeof value !== 'number' || (s.type === 'integer' && !Number.isInteger(value)))
        return bad('no number');
      const least = Number(s.minimum ?? Number.NEGATIVE_INFINITY);
      if (s.exclusiveMinimum === true ? value <= least : value < least) return bad('too small');
      return value > Number(s.maximum ?? Number.POSITIVE_INFINITY) ? bad('too large') : [];
    }
    default:
      throw new Error(`${path}: the schema says ${JSON.stringify(s.type)}`);
  }
}

function objectOffences(schema: Fields, value: Fields, rules: Rules, path: string): string[] {
  const properties = fields(schema.properties);
  const more = schema.additionalProperties;
  const required = Array.isArray(schema.required) ? schema.required.map(String) : [];
  const found = required.filter((name) => !(name in value)).map((name) => `${path}.${name}: missing`);
  if (Object.keys(value).length > Number(schema.maxProperties ?? Number.POSITIVE_INFINITY)) {
    found.push(`${path}: too many`);
  }
  for (const [name, each] of Object.entries(value)) {
    const inner = properties[name] ?? more;
    if (inner === undefined) {
      if (schema.properties !== undefined) found.push(`${path}.${name}: unknown`);
    } else found.push(...schemaOffences(inner, each, rules, `${path}.${name}`));
  }
  const own = schema['x-kubernetes-validations'];
  for (const { message } of Array.isArray(own) ? own.map(fields) : []) {
    const rule = rules[String(message)];
    if (rule === undefined) throw new Error(`no function for the rule: ${String(message)}`);
    // A server looks at rules only when the rest is well.
    if (found.length === 0 && !rule(value)) found.push(`${path}: ${String(message)}`);
  }
  return found;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fields(value: unknown): Fields {
  return isFields(value) ? value : {};
}
