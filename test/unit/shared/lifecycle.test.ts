import { describe, expect, it } from 'vitest';
import { Lifecycle, type Startable } from '../../../shared/lifecycle.ts';
import { silentLogger } from '../../../shared/log.ts';

function parts(names: readonly string[], fail: { start?: string; stop?: string } = {}) {
  const events: string[] = [];
  const made = names.map(
    (name): Startable => ({
      name,
      async start() {
        await Promise.resolve();
        if (name === fail.start) throw new Error(`${name} is broken`);
        events.push(`+${name}`);
      },
      async stop() {
        await Promise.resolve();
        if (name === fail.stop) throw new Error(`${name} hangs on`);
        events.push(`-${name}`);
      },
    }),
  );
  return { events, lifecycle: new Lifecycle(made, silentLogger()) };
}

describe('Lifecycle', () => {
  it('starts in order and stops in reverse', async () => {
    const { events, lifecycle } = parts(['a', 'b', 'c']);
    await lifecycle.start();
    await lifecycle.stop();
    expect(events).toEqual(['+a', '+b', '+c', '-c', '-b', '-a']);
  });

  it('stops what had started when one fails, and says why', async () => {
    const { events, lifecycle } = parts(['a', 'b', 'c', 'd'], { start: 'c' });
    await expect(lifecycle.start()).rejects.toThrow('c is broken');
    expect(events).toEqual(['+a', '+b', '-b', '-a']);
  });

  it('stops the others when one cannot', async () => {
    const { events, lifecycle } = parts(['a', 'b', 'c'], { stop: 'b' });
    await lifecycle.start();
    await lifecycle.stop();
    expect(events).toEqual(['+a', '+b', '+c', '-c', '-a']);
  });

  it('stops once, and nothing that was not started', async () => {
    const { events, lifecycle } = parts(['a']);
    await lifecycle.stop();
    expect(events).toEqual([]);
    await lifecycle.start();
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    expect(events).toEqual(['+a', '-a']);
  });
});
