/** How this node stands, for `status` and metrics. Wall clock ms. */
export interface IdentityStatus {
  /** `waiting`: for its first certificate; `lapsed`: past its end and within the grace; `ended`: past that too. */
  readonly state: 'waiting' | 'good' | 'lapsed' | 'ended' | 'revoked' | 'untrusted';
  readonly pool: string | null;
  readonly keyId: string | null;
  readonly notAfter: number | null;
  readonly renewAt: number | null;
  readonly lastError: string | null;
  /** Key ids. */
  readonly roots: readonly string[];
  readonly revoked: number;
  readonly trustVersion: number | null;
  /** Times that a neighbour, or the hub, was taken with a certificate past its end. */
  readonly lapsedAdmitted: number;
  /** How far this node's clock was found ahead; 0 for one that is about right. */
  readonly clockAheadMs: number;
}
