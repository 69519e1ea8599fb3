/** Imported before everything else: V8 set for what a hub does. `npm run bench:hub` prints what it comes to. */
import { setFlagsFromString } from 'node:v8';

// Most of what a hub makes lives for one message; a young generation that has grown for the first thousand of them would
// keep some 30 MiB for good.
setFlagsFromString('--semi-space-growth-factor=1');
