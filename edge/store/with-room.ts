import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import { WRITE_ATTEMPTS } from './constants.ts';
import type { StoreRoom } from './types.ts';

/**
 * Writes something of a blob. Where the disk is full that waits until some room has been made, and is tried again as long as
 * any can be. @throws TidepoolError STORE_FULL, or what `write` throws
 */
export async function withRoom(
  room: StoreRoom | undefined,
  key: BlobKey,
  write: () => Promise<void>,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    if (room?.open === false) {
      throw new TidepoolError('STORE_FULL', `no room to keep ${key}: free some space on this node`);
    }
    try {
      await write();
      return;
    } catch (error) {
      const isFull = isTidepoolError(error, 'STORE_FULL');
      if (!isFull || room === undefined || attempt === WRITE_ATTEMPTS || !(await room.make())) throw error;
    }
  }
}
