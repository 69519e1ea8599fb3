import { createHash } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import Database from 'better-sqlite3';
import type { Host, PoolOfHosts } from '../../pool.ts';

interface WholeBlob {
  readonly key: string;
  readonly size: number;
}

/** What was found right once and has not been written to since. */
const verified = new Set<string>();

/** Blobs of all agents' stores that their indexes call whole, and whose bytes are not what they are named after. */
export async function wrongStoredBytes(pool: PoolOfHosts): Promise<string[]> {
  const wrong: string[] = [];
  for (const host of pool.hosts) wrong.push(...(await wrongOn(host)));
  return wrong;
}

async function wrongOn(host: Host): Promise<string[]> {
  const data = host.agent?.data;
  if (data === undefined) return [];
  const wrong: string[] = [];
  for (const { key, size } of wholeBlobs(join(data, 'index.db'))) {
    const [kind = '', hex = ''] = key.split(':');
    // A file that containerd keeps is not the store's; what is in containerd is read by itself.
    if (kind !== 'sha256') continue;
    const path = join(data, 'blobs', hex.slice(0, 2), `${kind}-${hex}`);
    if (!existsSync(path)) {
      if (!wholeBlobs(join(data, 'index.db')).some((blob) => blob.key === key)) continue;
      wrong.push(`${host.name} has no file for ${key}`);
      continue;
    }
    const facts = statSync(path);
    const id = `${path} ${facts.ino} ${facts.mtimeMs}`;
    if (verified.has(id)) continue;
    if (facts.size !== size) wrong.push(`${host.name} has ${facts.size} bytes of ${size} of ${key}`);
    const hash = createHash('sha256');
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
    const found = hash.digest('hex');
    if (found === hex) verified.add(id);
    else wrong.push(`${host.name} holds ${found} under ${key}`);
  }
  return wrong;
}

function wholeBlobs(file: string): WholeBlob[] {
  if (!existsSync(file)) return [];
  const database = new Database(file, { readonly: true, timeout: 5_000 });
  try {
    return database.prepare('SELECT key, size FROM blobs WHERE whole = 1').all() as WholeBlob[];
  } finally {
    database.close();
  }
}
