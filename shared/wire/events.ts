/**
 * What happened on a node that its hub shall hear of, also when it is cut off then. Kinds are a closed set on the side that
 * tells them, and any short word on the side that hears: a newer agent may know more of them.
 */
import * as z from 'zod';

export const EVENT_KINDS = [
  /** The agent has started; key: its version. */
  'agent-started',
  /** A tag was answered from a record because its registry could not be asked; key: the image. */
  'tag-stale',
  /** Bytes on disk are not what they were; key: the blob. */
  'blob-damaged',
  /** Damaged bytes were fetched anew; key: the blob. */
  'blob-repaired',
  /** The pool's last copy was given up because the disk had to have room; key: the blob. */
  'last-copy-evicted',
  /** Nothing more can be kept; content is passed on without. */
  'store-full',
  /** A neighbour sent bytes that are not what it said; key: the neighbour. */
  'neighbour-set-aside',
  /** A neighbour that is revoked has tried to speak; key: the neighbour. */
  'neighbour-revoked',
  /** A bundle was taken in; key: its name. */
  'bundle-imported',
  /** A bundle was not taken in; detail: why. */
  'bundle-refused',
  /** The index was lost or damaged and made anew from the blobs; detail: what was found. */
  'index-rebuilt',
  /** A bootstrap file was taken in; detail: of which epoch. */
  'bootstrapped',
  /** The node could not reach its hub for minutes; detail: how long. */
  'cut-off',
  /** A command of the hub came too late to be followed; key: its kind. */
  'command-expired',
  /** There was no room to keep events; the count says how many are lost. */
  'events-dropped',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

export const MAX_EVENT_KEY = 300;
export const MAX_EVENT_DETAIL = 300;

/** Something that has just happened. Events of one kind and key become one with a count while the hub is away. */
export interface NodeEvent {
  readonly kind: EventKind;
  /** What it happened to; longer ones are cut at {@link MAX_EVENT_KEY} characters. */
  readonly key?: string;
  /** In words; of several that become one the last is kept. No secrets. */
  readonly detail?: string;
  /** So many at once; default 1. */
  readonly count?: number;
}

/** Where any room may tell what happened. Never throws and never waits. */
export interface EventSink {
  note(event: NodeEvent): void;
}

/** For rooms that are made without a hub in sight. */
export const NO_EVENTS: EventSink = { note: () => undefined };

/** An event as it is told to the hub. `boot` and `seq` name it: told twice it is the same one. */
export const toldEvent = z.object({
  boot: z.string().min(1).max(100),
  seq: z.number().int().positive(),
  kind: z.string().regex(/^[a-z][a-z0-9-]{0,39}$/),
  key: z.string().max(MAX_EVENT_KEY).optional(),
  detail: z.string().max(MAX_EVENT_DETAIL).optional(),
  count: z.number().int().positive(),
  /** By the node's clock, ms. */
  firstAt: z.number(),
  lastAt: z.number(),
});
export type ToldEvent = z.infer<typeof toldEvent>;
