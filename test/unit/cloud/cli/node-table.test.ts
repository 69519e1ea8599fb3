import { describe, expect, it } from 'vitest';
import { nodeTable } from '../../../../cloud/cli/tables.ts';
import type { NodeView } from '../../../../shared/wire/api.ts';

const node = (name: string, runtime: NodeView['runtime']): NodeView => ({
  node: name,
  pool: 'site',
  online: true,
  address: '10.0.0.7:6181',
  version: '1',
  platform: 'linux/amd64',
  tuningHash: null,
  lastSeen: 0,
  counters: null,
  runtime,
});

describe('nodeTable', () => {
  it('shows whether each node uses the mirror, and what to do where it does not', () => {
    const fix = 'set config_path';
    const text = nodeTable(
      [
        node('a', { mirror: 'yes', runtime: 'containerd v2.2.4' }),
        node('b', { mirror: 'no', fix }),
        node('c', { mirror: 'not-configured', fix: 'run configure' }),
        node('d', { mirror: 'unknown' }),
        node('e', null),
        ...Array.from({ length: 6 }, (_, i) => node(`f${i}`, { mirror: 'no', fix })),
      ],
      0,
    );
    const lines = text.split('\n');
    const at = lines[0]?.indexOf('MIRROR') ?? -1;
    expect(at).toBeGreaterThan(0);
    const cells = lines.slice(1, 6).map((line) => line.slice(at, at + 'not configured'.length).trim());
    expect(cells).toEqual(['yes', 'no', 'not configured', 'unknown', 'unknown']);
    expect(text).toContain('RuntimeNotConfigured on b, f0, f1, f2, f3 and 2 more: set config_path\n');
    expect(text).toContain('RuntimeNotConfigured on c: run configure\n');
  });
});
