/** The first file of a bundle: a statement that the hub has signed, or one that nobody has. */
import { openMessage, type Signer, signMessage } from '../trust/envelope.ts';
import type { Principal } from '../trust/types.ts';
import { STATEMENT_TOPIC } from './constants.ts';
import { bundleRefused } from './refusal.ts';
import { readStatement, type Statement, writeStatement } from './statement.ts';

const NEWLINE = 0x0a;
const UNSIGNED = Buffer.from('{"unsigned":true}\n');

export function signStatement(said: Statement, signer: Signer): Buffer {
  return signMessage(STATEMENT_TOPIC, writeStatement(said), signer);
}

export function unsignedStatement(said: Statement): Buffer {
  return Buffer.concat([UNSIGNED, writeStatement(said)]);
}

export interface StatementFile {
  readonly bytes: Uint8Array;
  readonly statement: Statement;
  /** Somebody has: who, and whether that is true, {@link checkSignature} says. */
  readonly signed: boolean;
}

/** Reads it without believing it. @throws TidepoolError BUNDLE_REFUSED */
export function readStatementFile(bytes: Uint8Array): StatementFile {
  const end = bytes.indexOf(NEWLINE);
  if (end < 0) throw bundleRefused('its first file is no statement');
  const signed = !UNSIGNED.equals(bytes.subarray(0, end + 1));
  return { bytes, signed, statement: readStatement(bytes.subarray(end + 1)) };
}

/** @throws TidepoolError CERTIFICATE_REFUSED, SIGNATURE_WRONG where it is not the hub's */
export function checkSignature(file: StatementFile, judge: (certificate: Uint8Array) => Principal): void {
  openMessage(STATEMENT_TOPIC, file.bytes, judge);
}
