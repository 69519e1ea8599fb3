/** Paths, headers and status of the peer protocol. */

export const HEADER = {
  pool: 'tidepool-pool',
  node: 'tidepool-node',
  address: 'tidepool-address',
  sha256: 'tidepool-sha256',
  reader: 'tidepool-reader',
  verified: 'tidepool-verified',
  ask: 'tidepool-ask',
} as const;

export const PATHS = {
  hello: '/v1/hello',
  channel: '/v1/channel',
  join: '/v1/join',
  leave: '/v1/leave',
  piece: '/v1/piece',
  progress: '/v1/progress',
  claims: '/v1/claims',
  manifest: '/v1/manifest',
  tags: '/v1/tags',
  holdings: '/v1/holdings',
  size: '/v1/size',
  lease: '/v1/lease',
  upstream: '/v1/upstream',
  access: '/v1/access',
  grants: '/v1/grants',
  custody: '/v1/custody',
  trust: '/v1/trust',
} as const;

/** Status of a piece answer that carries no bytes, and why. */
export const STATUS = { bytes: 200, confirmed: 204, elsewhere: 421, refused: 409 } as const;
