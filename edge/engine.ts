/**
 * Imported before everything else: V8 set for what an agent does. `npm run bench` and the lab's cold pull print what it
 * comes to.
 */
import { setFlagsFromString } from 'node:v8';

// The young generation stays small: most of an agent's bytes live in buffers outside the heap, and V8 would else keep
// some 30 MiB of room for objects that there never are.
setFlagsFromString('--semi-space-growth-factor=1');
// An agent works for the seconds of a pull and then rests: to optimize code sooner costs more than it ever brings in.
setFlagsFromString('--interrupt-budget=1000000');
