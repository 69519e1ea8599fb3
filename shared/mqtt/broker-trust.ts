/** How a broker that is not the hub's own proves itself, as people set it. */
import { X509Certificate } from 'node:crypto';
import { describeError, TidepoolError } from '../errors.ts';
import { type NodeName, quote } from '../ids.ts';
import { type BrokerTrust, parseBrokerUrl } from './broker-stream.ts';

export interface WrittenBrokerTrust {
  /** What was read, and from where. */
  readonly ca?: { readonly file: string; readonly pem: string } | undefined;
  readonly node?: NodeName | undefined;
}

/** How the two are called where they are set, for messages: `--hub-ca`, `--hub-node`. */
export interface BrokerTrustNames {
  readonly ca: string;
  readonly node: string;
}

/**
 * Undefined where nothing is set: the broker is the hub's own, and shows the hub's certificate.
 * @throws TidepoolError INVALID_CONFIG for what contradicts itself, or would be without effect
 */
export function brokerTrustOf(
  { ca, node }: WrittenBrokerTrust,
  { urls, insecure }: { readonly urls: readonly string[]; readonly insecure: boolean },
  names: BrokerTrustNames,
): BrokerTrust | undefined {
  if (ca === undefined && node === undefined) return undefined;
  if (ca !== undefined && node !== undefined) {
    const message = `${names.ca} and ${names.node} are two ways for a broker to prove itself, by an authority of the site or as a node of ours; choose one`;
    throw new TidepoolError('INVALID_CONFIG', message);
  }
  const name = ca === undefined ? names.node : names.ca;
  const plain = urls.find((url) => !parseBrokerUrl(url).secure);
  if (plain !== undefined) {
    const message = `${name} says how the broker proves itself, and ${quote(plain)} is a plain address: write mqtts://`;
    throw new TidepoolError('INVALID_CONFIG', message);
  }
  if (urls.length === 0) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `${name} is about a broker elsewhere, and none is named by its mqtts:// address`,
    );
  }
  if (ca === undefined) {
    if (!insecure) return { node };
    const message = `${name} needs the certificates of nodes, and there are none with --insecure; ${names.ca} goes with it`;
    throw new TidepoolError('INVALID_CONFIG', message);
  }
  return { ca: checkedPem(ca, names.ca) };
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Whatever keys a site's authority has: they are OpenSSL's to judge. */
function checkedPem({ file, pem }: { readonly file: string; readonly pem: string }, name: string): string {
  const found = pem.match(CERTIFICATE) ?? [];
  try {
    if (found.length === 0) throw new Error('there is no PEM certificate in it');
    for (const each of found) new X509Certificate(each);
  } catch (error) {
    const message = `${name}: ${quote(file)} is no authority's certificate: ${describeError(error)}`;
    throw new TidepoolError('INVALID_CONFIG', message, { cause: error });
  }
  return `${found.join('\n')}\n`;
}
