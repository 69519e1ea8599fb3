/** What the hub has to remember of trust: one document, replaced as a whole. */
import * as z from 'zod';
import type { NodeName } from '../../shared/ids.ts';
import { parseKeyId } from '../../shared/trust/certificate.ts';
import type { KeyId } from '../../shared/trust/types.ts';
import { nodeName, poolName } from '../../shared/wire/messages/fields.ts';

const keyId = z.string().transform(parseKeyId);

const keyEntry = z.object({
  keyId,
  serial: z.string(),
  /** That its certificate names. */
  pool: poolName,
  /** Of the root that signed it. */
  issuer: keyId,
  issuedAt: z.number(),
  notAfter: z.number(),
  /** The node has shown its certificate to the hub. */
  used: z.boolean(),
  /** A later one is in use: it may not be renewed any more. */
  superseded: z.boolean(),
});
export type KeyEntry = z.infer<typeof keyEntry>;

const nodeEntry = z.object({
  node: nodeName,
  pool: poolName,
  enrolledAt: z.number(),
  /** As `join-token:1a2b3c4d` or `serviceaccount:kube-system/tidepool-agent`. */
  by: z.string(),
  platform: z.string().optional(),
  /** Oldest first; revoked ones are not among them. */
  keys: z.array(keyEntry),
});
export type NodeEntry = z.infer<typeof nodeEntry>;

const revokedKey = z.object({
  keyId,
  node: nodeName,
  pool: poolName,
  at: z.number(),
  notAfter: z.number(),
  /** Of a node that was moved and has not shown its next certificate yet: this key may still ask for it. */
  renewable: z.boolean(),
});
export type RevokedKey = z.infer<typeof revokedKey>;

const tokenEntry = z.object({
  id: z.string(),
  /** Hex sha256 of the secret: that has 192 random bits, so nobody finds it by trying. */
  hash: z.string(),
  pool: poolName,
  createdAt: z.number(),
  expiresAt: z.number(),
  uses: z.number().int(),
  used: z.number().int(),
  /** Of the last minutes: who of them asks again with the same key has lost the answer. */
  takers: z.array(z.object({ node: nodeName, keyId, at: z.number() })),
});
export type TokenEntry = z.infer<typeof tokenEntry>;

const document = z.object({
  version: z.number().int(),
  /** Which roots the version speaks of. */
  roots: z.string(),
  nodes: z.array(nodeEntry),
  revoked: z.array(revokedKey),
  tokens: z.array(tokenEntry),
});

export interface TrustState {
  version: number;
  roots: string;
  readonly nodes: Map<NodeName, NodeEntry>;
  readonly revoked: Map<KeyId, RevokedKey>;
  readonly tokens: Map<string, TokenEntry>;
  /** Whose each key is that is not revoked. */
  readonly owners: Map<KeyId, NodeName>;
}

/** @param now a lost document must not take the version back, so the first one is the time in seconds */
export function emptyState(now: number): TrustState {
  return {
    version: Math.floor(now / 1000),
    roots: '',
    nodes: new Map(),
    revoked: new Map(),
    tokens: new Map(),
    owners: new Map(),
  };
}

/** @throws SyntaxError, ZodError */
export function decodeState(text: string): TrustState {
  const { version, roots, nodes, revoked, tokens } = document.parse(JSON.parse(text));
  return {
    version,
    roots,
    nodes: new Map(nodes.map((each) => [each.node, each])),
    revoked: new Map(revoked.map((each) => [each.keyId, each])),
    tokens: new Map(tokens.map((each) => [each.id, each])),
    owners: new Map(nodes.flatMap(({ node, keys }) => keys.map((key) => [key.keyId, node] as const))),
  };
}

export function encodeState({ version, roots, nodes, revoked, tokens }: TrustState): string {
  return JSON.stringify({
    version,
    roots,
    nodes: [...nodes.values()],
    revoked: [...revoked.values()],
    tokens: [...tokens.values()],
  } satisfies z.input<typeof document>);
}
