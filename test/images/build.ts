/**
 * Writes OCI layouts of both images: `npx tsx test/images/build.ts OUT` makes OUT/tidepool-agent and OUT/tidepool-hub and
 * prints name and digest of each. From there: `skopeo copy oci:OUT/tidepool-agent:VERSION docker://…`
 */
import { join } from 'node:path';
import { freshBundles } from '../support/bundles.ts';
import { imagesOf, projectVersion } from './contents.ts';
import { writeImage } from './layout.ts';

export interface BuiltImage {
  /** Directory of the OCI layout. */
  readonly layout: string;
  readonly tag: string;
  readonly digest: string;
}

export async function buildImages(directory: string): Promise<{ agent: BuiltImage; hub: BuiltImage }> {
  await freshBundles();
  const tag = projectVersion();
  const contents = await imagesOf(tag);
  const build = async (name: string, image: typeof contents.agent): Promise<BuiltImage> => {
    const layout = join(directory, name);
    return { layout, tag, digest: await writeImage(layout, image) };
  };
  return {
    agent: await build('tidepool-agent', contents.agent),
    hub: await build('tidepool-hub', contents.hub),
  };
}

if (process.argv[1] === import.meta.filename) {
  const [directory] = process.argv.slice(2);
  if (directory === undefined) throw new Error('say where: npx tsx test/images/build.ts OUT');
  for (const { layout, tag, digest } of Object.values(await buildImages(directory))) {
    process.stdout.write(`${layout}:${tag} ${digest}\n`);
  }
}
