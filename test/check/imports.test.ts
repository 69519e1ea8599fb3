import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { importOffences, importsOf, type SourceFile } from '../support/import-rules.ts';

const ROOT = join(import.meta.dirname, '../..');

function sources(side: string): SourceFile[] {
  return readdirSync(join(ROOT, side), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({ path: `${side}/${name}`, text: readFileSync(join(ROOT, side, name), 'utf8') }));
}

describe('imports of this repository', () => {
  it.each(['shared', 'edge', 'cloud'])('point one way in %s/', (side) => {
    const files = sources(side);
    expect(files.length).toBeGreaterThan(10);
    expect(importOffences(files)).toEqual([]);
  });
});

describe('the check itself', () => {
  const offence = (path: string, text: string): string[] => importOffences([{ path, text }]);

  it.each([
    ['shared/ids.ts', `import { X } from '../edge/settings.ts';`, 'imports nothing of the project'],
    ['edge/store/a.ts', `import { X } from '../transfer/b.ts';`, 'store may not know transfer'],
    ['edge/store/a.ts', `import type { X } from '../transfer/b.ts';`, 'store may not know transfer'],
    ['edge/store/a.ts', `export { X } from '../transfer/b.ts';`, 'store may not know transfer'],
    ['edge/store/a.ts', `export * from '../transfer/b.ts';`, 'store may not know transfer'],
    ['edge/store/a.ts', `import '../transfer/b.ts';`, 'store may not know transfer'],
    ['edge/store/a.ts', `const x = await import('../transfer/b.ts');`, 'store may not know transfer'],
    ['edge/store/a.ts', 'const x = await import(`../transfer/b.ts`);', 'imports by a computed name'],
    ['shared/a.ts', `const x = await import(name);`, 'imports by a computed name'],
    [
      'edge/store/a.ts',
      `import X, {\n  type Y,\n  Z as Q,\n} from '../transfer/b.ts';`,
      'may not know transfer',
    ],
    ['edge/index/a.ts', `import { X } from '../store/b.ts';`, 'index may not know store'],
    ['edge/origin/a.ts', `import { X } from '../peers/b.ts';`, 'origin may not know peers'],
    ['edge/peers/client.ts', `import { X } from '../transfer/b.ts';`, 'peers may not know transfer'],
    ['edge/transfer/a.ts', `import { X } from '../peers/server.ts';`, 'transfer may not know peers/server'],
    ['edge/mirror/a.ts', `import { X } from '../ops/b.ts';`, 'mirror may not know ops'],
    ['edge/ops/a.ts', `import { X } from '../prefetch/b.ts';`, 'ops may not know prefetch'],
    ['edge/mirror/a.ts', `import { X } from '../components.ts';`, 'mirror may not know components'],
    ['edge/cli/a.ts', `import { X } from '../store/b.ts';`, 'cli may not know store'],
    ['edge/mirror/a.ts', `import { X } from '../../cloud/api/b.ts';`, 'do not know each other'],
    ['cloud/api/a.ts', `import { X } from '../../edge/ops/b.ts';`, 'do not know each other'],
    ['cloud/pools/a.ts', `import { X } from '../api/b.ts';`, 'pools may not know api'],
    ['cloud/kube/a.ts', `import { X } from '../broker/b.ts';`, 'kube may not know broker'],
    ['edge/mirror/a.ts', `import { X } from '../../test/support/b.ts';`, 'which is in no room'],
  ])('refuses %s with %s', (path, text, why) => {
    expect(offence(path, text)).toEqual([expect.stringContaining(why)]);
  });

  it('wants each file in a room that it knows', () => {
    expect(offence('edge/cellar/a.ts', '')).toEqual(['edge/cellar/a.ts: belongs to no room']);
  });

  it('lets the composition root alone make what others define', () => {
    const text = `import { Store } from '../store/store.ts';\nconst store = new Store();`;
    expect(offence('edge/transfer/a.ts', text)).toEqual([expect.stringContaining('makes a Store')]);
    expect(offence('edge/components.ts', text.replace('../', './'))).toEqual([]);
    expect(offence('edge/transfer/a.ts', text.replace('new Store()', 'store as Store'))).toEqual([]);
  });

  it('allows what points down, whatever comments and strings say', () => {
    const text = [
      `// import { X } from '../mirror/b.ts';`,
      `/* import { Y } from '../mirror/b.ts'; */`,
      `import { A } from '../peers/client.ts';`,
      `import type { B } from '../index/types.ts';`,
      `import { C } from '../../shared/ids.ts';`,
      `import { D } from 'node:fs';`,
      `const url = 'http://x'; // new A()`,
    ].join('\n');
    expect(offence('edge/transfer/a.ts', text)).toEqual([]);
    expect(importsOf(text).map(({ specifier }) => specifier)).toEqual([
      '../peers/client.ts',
      '../index/types.ts',
      '../../shared/ids.ts',
      'node:fs',
    ]);
  });
});
