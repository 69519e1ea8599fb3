/** etcd over its JSON gateway, past the API server: what no API call can do, or not at once. */
const REGISTRY = '/registry/';
/** Where the range of all keys that begin with that ends: the last character's successor. */
const REGISTRY_END = '/registry0';
/** What etcd takes in a transaction is 128. */
const BATCH = 100;

export class Etcd {
  readonly #url: string;

  /** @param port its clients' port on 127.0.0.1 */
  constructor(port: number) {
    this.#url = `http://127.0.0.1:${port}/v3`;
  }

  /** Forgets all history. */
  async compact(): Promise<void> {
    const found = (await this.#post('kv/range', { key: encode('x') })) as { header: { revision: string } };
    await this.#post('kv/compaction', { revision: found.header.revision, physical: true });
  }

  /** Of all that an API server stores. */
  async keys(): Promise<string[]> {
    const range = { key: encode(REGISTRY), range_end: encode(REGISTRY_END), keys_only: true };
    const { kvs = [] } = (await this.#post('kv/range', range)) as { kvs?: { key: string }[] };
    return kvs.map(({ key }) => Buffer.from(key, 'base64').toString());
  }

  async remove(keys: readonly string[]): Promise<void> {
    for (let from = 0; from < keys.length; from += BATCH) {
      const success = keys
        .slice(from, from + BATCH)
        .map((key) => ({ request_delete_range: { key: encode(key) } }));
      await this.#post('kv/txn', { success });
    }
  }

  async #post(path: string, body: unknown): Promise<unknown> {
    const answer = await fetch(`${this.#url}/${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`etcd ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64');
}
