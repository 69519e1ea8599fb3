/** What this node moved since its agent started, bytes and counts. Only ever grows; ops and reports read it. */
export class TransferStats {
  wanBytes = 0;
  /** When a piece's bytes last came from beyond the pool, monotonic ms. */
  wanAt: number | undefined;
  peerBytes = 0;
  servedPeerBytes = 0;
  originPieces = 0;
  peerPieces = 0;
  hedges = 0;
  corruptPieces = 0;
  digestMismatches = 0;
  joins = 0;
  /** Given to readers without being kept, for want of room. */
  passedBytes = 0;
}
