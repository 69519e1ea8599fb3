import { describeError } from '../../shared/errors.ts';
import { type NodeName, parseNodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { DocumentTable } from '../index/types.ts';
import { parseAddress } from './wire/members.ts';

/** Who says that a node is a member. The hub's word outlives silence, a node's own word does not. */
export type Source = 'roster' | 'static' | 'learned';

export interface KnownMember {
  readonly node: NodeName;
  readonly address: string;
  readonly source: Source;
}

const DOCUMENT = 'members';

/** The members of a pool, kept on disk. */
export class MemberBook {
  readonly #documents: Pick<DocumentTable, 'get' | 'put'>;
  readonly #log: Logger;

  constructor(components: {
    readonly documents: Pick<DocumentTable, 'get' | 'put'>;
    readonly log: Logger;
  }) {
    this.#documents = components.documents;
    this.#log = components.log;
  }

  write(members: readonly KnownMember[]): void {
    this.#documents.put(
      DOCUMENT,
      members.map(({ node, address, source }) => ({ node, address, source })),
    );
  }

  /** What is damaged is left out. */
  read(): KnownMember[] {
    const saved = this.#documents.get(DOCUMENT);
    if (!Array.isArray(saved)) return [];
    const members: KnownMember[] = [];
    for (const item of saved as { node?: unknown; address?: unknown; source?: unknown }[]) {
      if (typeof item?.node !== 'string' || typeof item.address !== 'string') continue;
      const source = item.source === 'roster' || item.source === 'static' ? item.source : 'learned';
      try {
        members.push({ node: parseNodeName(item.node), address: parseAddress(item.address), source });
      } catch (error) {
        this.#log.warn({ item, why: describeError(error) }, 'a saved neighbour is damaged and left out');
      }
    }
    return members;
  }
}
