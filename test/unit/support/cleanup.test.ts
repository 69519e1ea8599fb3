import { describe, expect, it } from 'vitest';
import { Cleanup } from '../../support/cleanup.ts';

describe('Cleanup', () => {
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
