import { inspect } from 'node:util';

/** What stands where a secret was. */
export const CENSORED = '[secret]';

/**
 * A password, token or key that shows itself nowhere: not in a log line, JSON, a template or an error's text. Whoever needs
 * it says so by `reveal`, which makes every such place easy to find.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return CENSORED;
  }

  toJSON(): string {
    return CENSORED;
  }

  [inspect.custom](): string {
    return CENSORED;
  }
}

const USERINFO = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/?#@"'\\]+@/gi;
const CREDENTIAL = /\b(Basic|Bearer)(\s+)[A-Za-z0-9+/=._~-]{12,}/g;
/** Join tokens of this project, and JSON Web Tokens. */
const TOKEN = /\b(?:tp1[A-Za-z0-9._-]{16,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)/g;

/**
 * A text without the accounts of URLs, the values of Authorization headers and tokens. What others put into an error's
 * message has no type to go by: this is the last net, for whole log lines and for what a page shows.
 */
export function withoutSecrets(text: string): string {
  return text
    .replace(USERINFO, `$1${CENSORED}@`)
    .replace(CREDENTIAL, `$1$2${CENSORED}`)
    .replace(TOKEN, CENSORED);
}
