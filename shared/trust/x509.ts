/** The library that writes certificates. It takes 12 MiB, so it comes only when something is to be written. */
export async function loadX509(): Promise<typeof import('@peculiar/x509')> {
  // Its container for parts wants this polyfill in place before it.
  await import('reflect-metadata');
  return await import('@peculiar/x509');
}
