import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { Secret, withoutSecrets } from '../../../shared/secret.ts';

function lines(write: (log: ReturnType<typeof createLogger>) => void): string {
  let all = '';
  write(
    createLogger('test', 'trace', {
      write: (line) => {
        all += line;
      },
    }),
  );
  return all;
}

describe('Secret', () => {
  const secret = new Secret('hunter2');

  it('shows itself to nobody who does not ask', () => {
    expect(`${secret} ${JSON.stringify({ secret })} ${inspect({ secret })} ${String(secret)}`).not.toContain(
      'hunter2',
    );
    expect(Object.values(secret)).toEqual([]);
    expect(secret.reveal()).toBe('hunter2');
  });

  it('stays out of the log under any name, at any depth', () => {
    const said = lines((log) => {
      log.info({ x: secret, deep: { er: { still: [secret] } } }, 'here');
      log.error({ err: Object.assign(new Error(`no: ${secret}`), { details: { pw: secret } }) }, 'there');
    });
    expect(said).not.toContain('hunter2');
    expect(said).toContain('[secret]');
  });
});

describe('the log', () => {
  it('leaves out what the names of fields say is secret', () => {
    const said = lines((log) => {
      log.info({ password: 'hunter2', a: { token: 'hunter2', b: { credentials: { x: 'hunter2' } } } });
      log.info({ request: { headers: { authorization: 'hunter2', cookie: 'hunter2' } } });
      log.child({ room: 'x' }).warn({ err: { details: { password: 'hunter2' } } });
    });
    expect(said).not.toContain('hunter2');
    expect(said.trim().split('\n')).toHaveLength(3);
  });

  it('leaves out accounts and tokens in texts that others made', () => {
    const said = lines((log) => {
      const cause = new Error('cannot reach mqtts://me:hunter2@hub.example:6183/');
      log.error(
        { err: new Error('Authorization: Basic aHVudGVyMjpodW50ZXIy', { cause }) },
        'Bearer hunter2hunter2',
      );
      log.info({ url: 'https://hunter2@registry.example/v2/' }, 'joined with tp1hunter2hunter2hunter2');
    });
    expect(said).not.toContain('hunter2');
    expect(said).not.toContain('aHVudGVy');
    expect(said).toContain('hub.example:6183');
    for (const line of said.trim().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
  });
});

describe('withoutSecrets', () => {
  it.each([
    ['mqtt://user:pass@h:1', 'mqtt://[secret]@h:1'],
    ['see https://h/path?mail=a@b and a@b', 'see https://h/path?mail=a@b and a@b'],
    ['Basic auth is asked for', 'Basic auth is asked for'],
    ['Bearer challenge', 'Bearer challenge'],
    ['docker.io/library/app@sha256:abc', 'docker.io/library/app@sha256:abc'],
  ])('%s', (text, shown) => {
    expect(withoutSecrets(text)).toBe(shown);
  });
});
