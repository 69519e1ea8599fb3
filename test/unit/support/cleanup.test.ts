import { describe, expect, it } from 'vitest';
import { Cleanup } from '../../support/cleanup.ts';

describe('Cleanup', () => {
  it('stops processes first, all at once', async () => {
    const cleanup = new Cleanup();
    const events: string[] = [];
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    cleanup.addProcess('slow', async () => {
      await released;
      events.push('slow');
    });
    cleanup.add('directory', () => void events.push('directory'));
    // It lets the slow one go: one after the other would wait for ever.
    cleanup.addProcess('quick', async () => {
      events.push('quick');
      release();
    });
    expect(await cleanup.run()).toEqual([]);
    expect(events).toEqual(['quick', 'slow', 'directory']);
  });

  it('undoes in reverse order, past a step that fails, and only once', async () => {
    const cleanup = new Cleanup();
    const undone: string[] = [];
    cleanup.add('directory', () => void undone.push('directory'));
    cleanup.add('broken', () => {
      throw new Error('will not');
    });
    cleanup.add('process', async () => void undone.push('process'));
    expect(await cleanup.run()).toEqual(['broken: will not']);
    expect(undone).toEqual(['process', 'directory']);
    expect(await cleanup.run()).toEqual([]);
    expect(undone).toHaveLength(2);
  });
});
