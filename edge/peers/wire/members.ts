/** Who speaks, and from where. */

import type { IncomingHttpHeaders } from 'node:http';
import { type NodeName, parseNodeName, parsePoolName } from '../../../shared/ids.ts';
import type { HelloAnswer, Member } from '../types.ts';
import { bad, list, record, text } from './fields.ts';
import { HEADER } from './paths.ts';

const ADDRESS = /^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/;

export interface Sender {
  readonly node: NodeName;
  readonly pool: string;
  readonly address: string;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseSender(headers: IncomingHttpHeaders): Sender {
  return {
    node: parseNodeName(text(headers[HEADER.node], HEADER.node)),
    pool: parsePoolName(text(headers[HEADER.pool], HEADER.pool)),
    address: parseAddress(headers[HEADER.address]),
  };
}

/** A literal address with a port: names are never resolved between neighbours. */
export function parseAddress(value: unknown): string {
  const address = text(value, 'address');
  if (!ADDRESS.test(address))
    throw bad(`address is not a literal address with a port: ${JSON.stringify(address)}`);
  return address;
}

/** Of an address as {@link parseAddress} takes it. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

export function parseHello(json: unknown): HelloAnswer {
  const fields = record(json, 'hello');
  return {
    node: parseNodeName(text(fields.node, 'node')),
    pool: parsePoolName(text(fields.pool, 'pool')),
    address: parseAddress(fields.address),
    members: list(fields.members, 'members').map((item): Member => {
      const member = record(item, 'members');
      return { node: parseNodeName(text(member.node, 'node')), address: parseAddress(member.address) };
    }),
  };
}
