/**
 * Sweeps that could go on for long: `npm test` takes a fixed part of each, `npm run test:deep` all of it. The part is no draw of
 * its own: the same points, seeds and inputs every time, the first of every kind and whatever went wrong once among them.
 */
export const isDeep = process.env.TIDEPOOL_TEST_DEPTH === 'deep';

export function byDepth<Value>(sweep: { readonly part: Value; readonly whole: Value }): Value {
  return isDeep ? sweep.whole : sweep.part;
}
