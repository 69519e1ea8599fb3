import { describe, expect, it } from 'vitest';
import { Mirror } from '../../../../edge/mirror/mirror.ts';
import { listenError, openToEveryUser } from '../../../../edge/mirror/privileged-port.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { createLogger, silentLogger } from '../../../../shared/log.ts';
import { FakeContent } from '../../../support/fake-content.ts';

const NOBODY = 65_534;
const init = { host: '127.0.0.1', defaultRegistry: 'docker.io' };

describe('a port that no other user of the node can take', () => {
  it('is one below what the system says, 1024 where it says nothing', () => {
    expect(openToEveryUser(618, () => '1024\n')).toBe(false);
    expect(openToEveryUser(6180, () => '1024\n')).toBe(true);
    expect(openToEveryUser(618, () => '0\n')).toBe(true);
    expect(openToEveryUser(618, () => '')).toBe(false);
    expect(openToEveryUser(1024, () => '')).toBe(true);
  });

  // Only root can become somebody else for a moment.
  it.runIf(process.getuid?.() === 0 && !openToEveryUser(618))(
    'is refused to an agent without the right to it, with what to do',
    async () => {
      const mirror = new Mirror(
        { content: new FakeContent(), log: silentLogger(), clock: systemClock },
        { ...init, port: 618 },
      );
      process.seteuid?.(NOBODY);
      const error: unknown = await mirror
        .start()
        .catch((reason: unknown) => reason)
        .finally(() => process.seteuid?.(0));
      await mirror.stop();
      expect(error).toMatchObject({ code: 'INVALID_CONFIG' });
      expect(String(error)).toMatch(/127\.0\.0\.1:618: .*EACCES.*CAP_NET_BIND_SERVICE.*--mirror/);
    },
  );

  it('is told apart from one that is taken', async () => {
    const error = Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' });
    expect(listenError('127.0.0.1', 618, error).message).toMatch(
      /free the port or set another with --mirror$/,
    );
  });

  it('is asked for in the log where the mirror is on another', async () => {
    const lines: string[] = [];
    const log = createLogger('test', 'warn', { write: (line) => void lines.push(line) });
    for (const guarded of [false, true]) {
      const mirror = new Mirror(
        { content: new FakeContent(), log, clock: systemClock },
        { ...init, port: 0, guarded },
      );
      await mirror.start();
      await mirror.stop();
      expect(lines).toHaveLength(guarded ? 1 : 0);
    }
    expect(lines[0]).toContain('collect the accounts');
  });
});
