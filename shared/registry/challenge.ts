/** One challenge of a WWW-Authenticate header (RFC 9110, 11.6.1). */
export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly params: ReadonlyMap<string, string>;
}

const MAX_HEADER_CHARS = 8 * 1024;
const MAX_CHALLENGES = 16;
const MAX_PARAMS = 32;
const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const TOKEN68 = /[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))/y;
const BLANKS = /[ \t]*/y;
const COMMAS = /[ \t,]*/y;

interface Draft {
  readonly scheme: string;
  readonly params: Map<string, string>;
}

/**
 * All challenges of a response, in order. Takes several in one header as well as several headers, quoted strings with commas and
 * escapes in them. What cannot be read ends the parse; what came before it counts. Never throws, and is bounded in time and memory.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const found: Challenge[] = [];
  for (const text of typeof header === 'string' ? [header] : (header ?? [])) {
    parseOne(text.slice(0, MAX_HEADER_CHARS), found);
  }
  return found;
}

function parseOne(text: string, found: Challenge[]): void {
  let at = 0;
  let current: Draft | undefined;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(text)?.[0];
    if (match !== undefined) at += match.length;
    return match;
  };
  for (take(COMMAS); at < text.length && found.length <= MAX_CHALLENGES; take(COMMAS)) {
    const name = take(TOKEN);
    if (name === undefined) return;
    const afterName = at;
    take(BLANKS);
    if (text[at] === '=' && current !== undefined) {
      at++;
      take(BLANKS);
      const value = text[at] === '"' ? takeQuoted() : take(TOKEN);
      if (value === undefined) return;
      // The first of a name wins, so that nothing appended can replace it.
      const key = name.toLowerCase();
      if (current.params.size < MAX_PARAMS && !current.params.has(key)) current.params.set(key, value);
      continue;
    }
    if (found.length === MAX_CHALLENGES) return;
    current = { scheme: name.toLowerCase(), params: new Map() };
    found.push(current);
    // `Negotiate YII=`: a token68 stands where parameters would; we use no scheme that has one.
    if (at > afterName) take(TOKEN68);
  }

  function takeQuoted(): string | undefined {
    let value = '';
    for (let index = at + 1; index < text.length; index++) {
      const char = text[index];
      if (char === '"') {
        at = index + 1;
        return value;
      }
      if (char === '\\') index++;
      value += text[index] ?? '';
    }
    return undefined;
  }
}
