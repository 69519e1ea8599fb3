const DEFAULT_LIFE_MS = 60_000;
const MAX_LIFE_MS = 3600_000;
// Also kept out: anything that could end a header line.
const TOKEN_VALUE = /^[\x21-\x7e]+$/;

/** A token service's answer, `{token | access_token, expires_in}`; undefined for anything else. */
export function parseTokenAnswer(text: string): { value: string; lifeMs: number } | undefined {
  let fields: Record<string, unknown>;
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) return undefined;
    fields = { ...parsed };
  } catch {
    return undefined;
  }
  const value = [fields.token, fields.access_token].find(
    (field) => typeof field === 'string' && field !== '',
  );
  if (typeof value !== 'string' || !TOKEN_VALUE.test(value)) return undefined;
  const seconds = fields.expires_in;
  const lifeMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : DEFAULT_LIFE_MS;
  return { value, lifeMs: Math.min(lifeMs, MAX_LIFE_MS) };
}
