import { describe, expect, it } from 'vitest';
import { CommandBook } from '../../../../edge/sync/command-book.ts';
import { MAX_COMMANDS } from '../../../../edge/sync/constants.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { CommandMessage } from '../../../../shared/wire/messages/command.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

const T = 1_700_000_000_000;

function command(id: string, more: Partial<CommandMessage> = {}): CommandMessage {
  return { id, epoch: 5, at: T, expiresAt: T + 60_000, command: { kind: 'renew' }, ...more };
}

function open(documents = new MemoryDocuments(), clock = new ManualClock()) {
  return { clock, documents, book: new CommandBook({ documents, clock, log: silentLogger() }) };
}

describe('CommandBook', () => {
  it('follows each command once, also over a restart', () => {
    const { book, documents } = open();
    expect(book.judge(command('a'))).toBe('follow');
    expect(book.judge(command('a'))).toBe('known');
    const again = open(documents).book;
    expect(again.judge(command('a'))).toBe('known');
    expect(again.judge(command('b'))).toBe('follow');
  });

  it('drops what is too late by the hub’s time, whatever this node’s clock says', () => {
    const { book, clock } = open();
    // Nothing was heard yet, and the node’s own clock counts for nothing.
    expect(book.judge(command('first', { at: T, expiresAt: T + 60_000 }))).toBe('follow');
    clock.advance(61_000);
    expect(book.hubTime).toBe(T + 61_000);
    expect(book.judge(command('late'))).toBe('expired');
    expect(book.judge(command('new', { at: T + 61_000, expiresAt: T + 121_000 }))).toBe('follow');
    // What is acknowledged stays true.
    const kept = { kind: 'events-kept' as const, through: [] };
    expect(book.judge(command('late', { command: kept }))).toBe('follow');
  });

  it('knows about what time it was over a restart', () => {
    const { book, documents, clock } = open();
    book.heard(5, T, false);
    clock.advance(100_000);
    book.judge(command('a', { at: T + 100_000, expiresAt: T + 160_000 }));
    expect(open(documents).book.judge(command('old', { expiresAt: T + 60_000 }))).toBe('expired');
  });

  it('a hub whose clock was put right is believed under its new epoch', () => {
    const { book } = open();
    book.heard(5, T + 365 * 86_400_000, false);
    expect(book.judge(command('a'))).toBe('expired');
    book.heard(6, T, false);
    expect(book.judge(command('b', { epoch: 6 }))).toBe('follow');
    book.heard(5, T + 365 * 86_400_000, false);
    expect(book.judge(command('c', { epoch: 6 }))).toBe('follow');
  });

  it('remembers a bounded number, the newest, and survives rubbish on the disk', () => {
    const { book, documents } = open();
    for (let n = 0; n < MAX_COMMANDS + 10; n++) book.judge(command(`c${n}`));
    expect(book.judge(command(`c${MAX_COMMANDS + 9}`))).toBe('known');
    expect(book.judge(command('c0'))).toBe('follow');
    const { ids } = documents.get('sync/commands') as { ids: string[] };
    expect(ids).toHaveLength(MAX_COMMANDS);
    documents.put('sync/commands', { ids: 'no list' });
    expect(open(documents).book.judge(command('x'))).toBe('follow');
  });
});
