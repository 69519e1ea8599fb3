import type Database from 'better-sqlite3';
import { type NodeName, parseNodeName } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';

/** Nodes by small numbers, as claims name them. As many as there are nodes in the pool's life, so they stay in memory. */
export class ReaderNames {
  readonly #run: Run;
  readonly #insert: Database.Statement<[NodeName]>;
  readonly #byName = new Map<NodeName, number>();
  readonly #byId = new Map<number, NodeName>();

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#insert = database.prepare('INSERT INTO readers (name) VALUES (?)');
    const all = database.prepare<[], { id: number; name: string }>('SELECT id, name FROM readers');
    for (const { id, name } of all.iterate()) this.#remember(id, parseNodeName(name));
  }

  /** The number of a node; a new one is kept at once, before any claim that uses it. @throws TidepoolError STORE_FULL */
  idOf(name: NodeName): number {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const id = Number(this.#run('keep a node name', () => this.#insert.run(name)).lastInsertRowid);
    this.#remember(id, name);
    return id;
  }

  nameOf(id: number): NodeName | undefined {
    return this.#byId.get(id);
  }

  #remember(id: number, name: NodeName): void {
    this.#byName.set(name, id);
    this.#byId.set(id, name);
  }
}
