import { DEPTH_MIN, DEPTH_SUM, WINDOW_GROWTH, WINDOW_MAX, WINDOW_START } from './constants.ts';

/**
 * How many pieces past its first missing one a blob may start over the WAN. The window opens with what the node has in
 * hand of all its blobs in progress, and is divided among them: one piece has the uplink to itself first, so that the first
 * bytes come soon on a thin one, and the uplink is full soon after.
 *
 * @param leading whole pieces in order, summed over the blobs in progress
 * @param blobs how many are in progress
 * @param place of this blob among them, 0 first: the remainder goes to the first
 */
export function wanWindow(leading: number, blobs: number, place: number): number {
  const window = Math.min(WINDOW_MAX, WINDOW_START + WINDOW_GROWTH * leading);
  const share = Math.floor(window / blobs);
  return place < window % blobs ? share + 1 : share;
}

/** Origin reads that one member has going for one blob. */
export function wanDepth(owners: number): number {
  return Math.max(DEPTH_MIN, Math.ceil(DEPTH_SUM / Math.max(1, owners)));
}
