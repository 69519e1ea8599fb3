import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import { type BootstrapFile, bootstrapFile } from '../../shared/wire/bootstrap.ts';
import { decode } from '../../shared/wire/messages/codec.ts';
import {
  type PrefetchIndexMessage,
  type PrefetchMessage,
  prefetchIndexMessage,
  prefetchMessage,
} from '../../shared/wire/messages/prefetch.ts';
import { type RosterMessage, rosterMessage } from '../../shared/wire/messages/roster.ts';
import { type TrustMessage, trustMessage } from '../../shared/wire/messages/trust.ts';
import { type TuningMessage, tuningMessage } from '../../shared/wire/messages/tuning.ts';
import { parseTopic } from '../../shared/wire/topics.ts';
import type { HubVoice } from './hub-voice.ts';
import { RosterAssembly } from './roster-assembly.ts';

/** A bootstrap file, read and checked whole. */
export interface Bootstrap {
  readonly epoch: number;
  /** By the hub's clock, ms. */
  readonly at: number;
  readonly shards: readonly RosterMessage[];
  readonly tuning: TuningMessage | undefined;
  readonly jobs: readonly PrefetchMessage[];
  readonly index: PrefetchIndexMessage | undefined;
  readonly trust: { readonly message: TrustMessage; readonly signed: Uint8Array } | undefined;
}

/**
 * Nothing of it is in force yet.
 * @param bytes the file's
 * @throws TidepoolError INVALID_ARGUMENT for what is no such file, or not for this pool, or not whole; CERTIFICATE_REFUSED,
 *   SIGNATURE_WRONG for what the hub has not said
 */
export function readBootstrap(
  bytes: Uint8Array,
  { pool, voice }: { readonly pool: PoolName; readonly voice: Pick<HubVoice, 'isChecked' | 'open'> },
): Bootstrap {
  const file = decode(bootstrapFile, bytes, 'it');
  if (file.pool !== pool) throw wrong(`it is for pool ${file.pool}, and this node is in ${pool}`);
  if (voice.isChecked && !file.signed) {
    throw wrong('nobody has signed it, and an agent takes such a file with --insecure alone');
  }
  const shards: RosterMessage[] = [];
  const jobs: PrefetchMessage[] = [];
  let tuning: TuningMessage | undefined;
  let index: PrefetchIndexMessage | undefined;
  let trust: Bootstrap['trust'];
  const topics = new Set<string>();
  const epochs = new Set<number>();
  for (const { topic, payload } of file.messages) {
    if (topics.has(topic)) throw wrong(`${topic} is in it twice`);
    topics.add(topic);
    const parsed = parseTopic(topic);
    if (parsed === undefined || !('pool' in parsed) || parsed.pool !== pool) {
      throw wrong(`${topic} is nothing that pool ${pool} is told`);
    }
    const signed = Buffer.from(payload, 'base64');
    const body = open(file, topic, signed, voice);
    switch (parsed.kind) {
      case 'roster':
        shards.push(decode(rosterMessage, body, topic));
        break;
      case 'tuning':
        tuning = decode(tuningMessage, body, topic);
        break;
      case 'prefetch': {
        const job = decode(prefetchMessage, body, topic);
        if (job.id !== parsed.id) throw wrong(`${topic} is of job ${job.id}`);
        jobs.push(job);
        break;
      }
      case 'prefetch-index':
        index = decode(prefetchIndexMessage, body, topic);
        break;
      case 'trust':
        trust = { message: decode(trustMessage, body, topic), signed };
        break;
    }
  }
  for (const { epoch } of [...shards, ...jobs]) epochs.add(epoch);
  for (const each of [tuning, index, trust?.message]) if (each !== undefined) epochs.add(each.epoch);
  const [epoch] = epochs;
  if (epoch === undefined || epochs.size > 1) {
    throw wrong(epoch === undefined ? 'it says nothing' : 'its parts are of different times');
  }
  const assembly = new RosterAssembly();
  if (shards.map((shard) => assembly.add(shard)).every((roster) => roster === undefined)) {
    throw wrong('the list of neighbours in it is not whole');
  }
  return { epoch, at: file.at, shards, tuning, jobs, index, trust };
}

function open(
  file: BootstrapFile,
  topic: string,
  payload: Uint8Array,
  voice: Pick<HubVoice, 'isChecked' | 'open'>,
): Uint8Array {
  if (!file.signed || voice.isChecked) return voice.open(topic, payload);
  // Signatures that nobody here asks for: a line before the body.
  return voice.open(topic, payload.subarray(payload.indexOf(0x0a) + 1));
}

function wrong(why: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', why);
}

/** In words for a person, with what to do. */
export function bootstrapProblem(file: string, pool: PoolName, error: unknown): TidepoolError {
  const make = `make a new one with \`tidepool-hub pools bootstrap ${pool} -o FILE\``;
  return new TidepoolError(
    'INVALID_CONFIG',
    `the bootstrap file ${file} cannot be used, and nothing of it is: ${describeError(error)}; ${make}`,
    { cause: error },
  );
}
