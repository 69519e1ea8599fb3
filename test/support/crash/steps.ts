import type { WalImage } from './wal.ts';

/** Something that the agent has told somebody, who relies on it from then on. */
export type Fact =
  /** A neighbour was promised the blob, and may have deleted its own. */
  | { readonly kind: 'kept'; readonly key: string }
  /** The blob, or pieces of it, are about to be given up. */
  | { readonly kind: 'removing'; readonly key: string }
  /** So many pieces of it are marked. */
  | { readonly kind: 'marked'; readonly key: string; readonly pieces: number }
  /** Something has happened that the hub is to know, each under a key of its own. */
  | { readonly kind: 'noted'; readonly key: string }
  /** The hub was told of it under this number. */
  | { readonly kind: 'told'; readonly key: string; readonly seq: number }
  /** The hub has what it was told up to this number, and may be forgotten; and has been. */
  | { readonly kind: 'acknowledging' | 'acknowledged'; readonly seq: number }
  /** A document is about to be kept, and is. */
  | { readonly kind: 'writing' | 'written'; readonly name: string; readonly value: unknown };

/** One change of the disk, in the order in which the agent made them; paths are relative to its data directory. */
export type Step =
  | { readonly do: 'directory' | 'create' | 'sync' | 'sync-directory' | 'unlink'; readonly path: string }
  | { readonly do: 'write'; readonly path: string; readonly offset: number; readonly bytes: Buffer }
  /** The database is different from what it was: pages of its file, or frames of its log. */
  | { readonly do: 'database'; readonly main: Buffer; readonly wal: WalImage }
  /** A commit that had to be on the disk has returned. */
  | { readonly do: 'database-synced' }
  /** Before it nothing ends: all that was done only lays out what is there. */
  | { readonly do: 'began' }
  | { readonly do: 'fact'; readonly fact: Fact };
