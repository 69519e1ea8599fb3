import { request as httpsRequest } from 'node:https';
import { mustRun } from '../../lab/process.ts';

/** One call with a token; rejects for an answer over 299. */
export function send(
  url: string,
  token: string,
  method: string,
  body?: unknown,
  type?: string,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const outgoing = httpsRequest(
      url,
      {
        method,
        rejectUnauthorized: false,
        agent: false,
        timeout: 20_000,
        headers: {
          authorization: `Bearer ${token}`,
          ...(payload === undefined ? {} : { 'content-type': type ?? 'application/json' }),
        },
      },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => {
          text += chunk;
        });
        answer.on('end', () => {
          const status = answer.statusCode ?? 0;
          if (status > 299) reject(new Error(`${method} ${url}: ${status} ${text.slice(0, 500)}`));
          else resolve(text.startsWith('{') ? JSON.parse(text) : text);
        });
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${method} ${url}: no answer`)));
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
}

/** The same from another network namespace: curl goes there. `enter` turns a command into one that runs there. */
export async function sendFrom(
  enter: (command: readonly string[]) => readonly string[],
  url: string,
  token: string,
  method: string,
  body?: unknown,
  type?: string,
): Promise<unknown> {
  const headers = [`authorization: Bearer ${token}`, `content-type: ${type ?? 'application/json'}`];
  const { stdout } = await mustRun(
    enter([
      'curl',
      '--silent',
      '--show-error',
      '--insecure',
      ...['--max-time', '20', '--request', method],
      ...headers.flatMap((header) => ['--header', header]),
      ...(body === undefined ? [] : ['--data-binary', '@-']),
      ...['--write-out', '\n%{http_code}'],
      url,
    ]),
    body === undefined ? {} : { input: JSON.stringify(body) },
  );
  const cut = stdout.lastIndexOf('\n');
  const text = stdout.slice(0, cut);
  if (Number(stdout.slice(cut + 1)) > 299) throw new Error(`${method} ${url}: ${text.slice(0, 500)}`);
  return text.startsWith('{') ? JSON.parse(text) : text;
}
