/**
 * Imported before everything else. The young generation stays small: most of an agent's bytes live in buffers outside
 * the heap, and V8 would else keep some 30 MiB of room for objects that there never are (`npm run bench` prints the peak).
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--semi-space-growth-factor=1');
