import { describe, expect, it } from 'vitest';
import { PoolProgress } from '../../demo/progress.ts';

const row = (pool: string, doneBytes: number) => ({
  pool,
  desired: 3,
  succeeded: 1,
  failed: 0,
  totalBytes: 600_000_000,
  doneBytes,
  wanBytes: 100_000_000,
  peerBytes: doneBytes - 100_000_000,
});

function screen(isTTY: boolean) {
  const written: string[] = [];
  return { isTTY, columns: 80, written, write: (text: string) => written.push(text) };
}

describe('PoolProgress', () => {
  it('draws a line a pool over the ones before on a terminal, none wider than it', () => {
    const terminal = screen(true);
    const progress = new PoolProgress(terminal);
    progress.show([row('pool-1', 200_000_000), row('pool-2', 300_000_000)]);
    progress.show([row('pool-1', 250_000_000), row('pool-2', 350_000_000)]);
    const [first = '', second = ''] = terminal.written;
    expect(first.match(/\n/g)).toHaveLength(2);
    expect(first).toContain('pool-1 1/3 nodes');
    expect(second.startsWith('\u001b[2A')).toBe(true);
    expect(first).toContain('WAN 100.0 MB  peers 100.0 MB');
    for (const line of first.replaceAll('\r', '').replaceAll('\u001b[K', '').split('\n')) {
      expect(line.length).toBeLessThanOrEqual(80);
    }
  });

  it('writes plain lines elsewhere, not at every turn, and always the last state', () => {
    const file = screen(false);
    const progress = new PoolProgress(file);
    progress.show([row('pool-1', 200_000_000)]);
    progress.show([row('pool-1', 210_000_000)]);
    progress.end([row('pool-1', 600_000_000)]);
    expect(file.written).toHaveLength(2);
    expect(file.written.join('')).not.toContain('\u001b');
    expect(file.written[1]).toContain('100 %');
    expect(file.written[1]).toContain('WAN 100.0 MB  peers 500.0 MB');
  });
});
