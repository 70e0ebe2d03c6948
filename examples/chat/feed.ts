import type { Hook, Log, LogEntry, RedisKit } from 'redis-kit';

export interface Message {
  readonly type: 'message';
  /** Pages receive a message from the stream and from the history, and show each id once. */
  readonly id: string;
  readonly at: number;
  readonly thread: string;
  readonly author: string;
  readonly role: 'user' | 'assistant';
  readonly text: string;
}

/** Reports to open pages that something of a thread has changed. */
export interface Notice {
  readonly type: 'answering' | 'summary' | 'report' | 'people';
  readonly thread: string;
}

export type ChatEvent = Message | Notice;

/** Data that is not used for as long as this expires. */
export const KEPT = '30d';

/** The messages and notices of all threads. */
export class Feed {
  /** The log of an id has the messages of that thread; the log of `<id>/notices` has its notices. */
  readonly log: Log<ChatEvent>;

  constructor(kit: RedisKit) {
    this.log = kit.log<ChatEvent>('feed', { limit: 1_000, ttl: KEPT, onAppend: [maskSecrets] });
  }

  /** The ids of the logs of a thread. */
  channelsOf(thread: string): string[] {
    return [thread, noticesOf(thread)];
  }

  async notify(thread: string, type: Notice['type']): Promise<void> {
    await this.log.append(noticesOf(thread), { type, thread });
  }

  /** The last messages, oldest first. */
  async last(thread: string, count: number): Promise<LogEntry<Message>[]> {
    return (await this.log.last(thread, count)).filter(isMessage);
  }

  async after(thread: string, cursor: string, limit: number): Promise<LogEntry<Message>[]> {
    return (await this.log.after(thread, cursor, limit)).filter(isMessage);
  }
}

function isMessage(entry: LogEntry<ChatEvent>): entry is LogEntry<Message> {
  return entry.event.type === 'message';
}

function noticesOf(thread: string): string {
  return `${thread}/notices`;
}

/** Keys of APIs that a user pastes by mistake are not stored. */
const maskSecrets: Hook<{ readonly id: string; event: ChatEvent }, string | undefined> = async (
  context,
  next,
) => {
  const { event } = context;
  if (event.type === 'message') {
    context.event = { ...event, text: event.text.replace(/\b(?:sk|ghp|xoxb)[-_][\w-]{16,}/g, '•••') };
  }
  return next();
};
