import { TidepoolError } from '../../shared/errors.ts';

/** Named values of a question, as `URLSearchParams` tells of them too. */
export interface Query {
  get(name: string): string | null;
}

/**
 * The part of a path after its question mark. Of what neighbours ask all day long: the general parser goes through it letter
 * by letter and converts each value three times. Of a name that comes twice the last value counts.
 * @throws TidepoolError INVALID_ARGUMENT
 */
export function parseQuery(text: string): Query {
  const values = new Map<string, string>();
  for (const field of text.split('&')) {
    const equals = field.indexOf('=');
    if (equals > 0) values.set(field.slice(0, equals), decode(field.slice(equals + 1)));
  }
  return { get: (name) => values.get(name) ?? null };
}

function decode(value: string): string {
  const text = value.includes('+') ? value.replaceAll('+', ' ') : value;
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'a value that is no URL-encoded text', { cause: error });
  }
}
