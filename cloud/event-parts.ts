/** What nodes tell of themselves: kept, then acknowledged. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import { describeError } from '../shared/errors.ts';
import type { NodeName } from '../shared/ids.ts';
import type { Logger } from '../shared/log.ts';
import type { CommandMessage } from '../shared/wire/messages/command.ts';
import type { InboxComponents } from './broker/inbox.ts';
import { EventBook } from './pools/event-book.ts';

export interface EventParts {
  readonly book: EventBook;
  readonly forInbox: NonNullable<InboxComponents['events']>;
}

export function makeEvents(
  components: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly command: (node: NodeName, content: CommandMessage['command']) => Promise<void>;
  },
  init: { readonly data: string },
): EventParts {
  const { clock, log, command } = components;
  const book = new EventBook({ clock, log }, { file: path.join(init.data, 'node-events.jsonl') });
  return {
    book,
    forInbox: {
      take: (node, told) => book.take(node, told),
      kept: (node, through) =>
        command(node, { kind: 'events-kept', through: [...through] }).catch((error: unknown) => {
          // The node tells them again, and hears it then.
          log.debug({ node, reason: describeError(error) }, 'could not acknowledge events');
        }),
    },
  };
}
