import type { Background, Documents, RedisKit } from 'redis-kit';
import { type Feed, KEPT } from './feed.ts';
import type { Model } from './model.ts';

export interface Summary {
  readonly text: string;
  /** The last message in the summary. */
  readonly cursor: string;
  /** The number of messages in the summary. */
  readonly messages: number;
}

/** The rolling summary of each thread, which a background job extends after new messages. */
export class Summaries {
  readonly #feed: Feed;
  readonly #model: Model;
  readonly #documents: Documents<Summary>;
  readonly #jobs: Background;

  constructor(kit: RedisKit, feed: Feed, model: Model) {
    this.#feed = feed;
    this.#model = model;
    this.#documents = kit.documents<Summary>('summary', { ttl: KEPT });
    // A job that is dropped is no loss: the next one of its thread includes the same messages.
    this.#jobs = kit.background({ workers: 4, queue: 100, timeout: '30s', onFull: 'drop-oldest' });
  }

  get(thread: string): Promise<Summary | undefined> {
    return this.#documents.get(thread);
  }

  /** Jobs of one thread run one after the other. A job that finds no new message does not ask the model. */
  async refresh(thread: string): Promise<void> {
    await this.#jobs.push(thread, ({ signal }) => this.extend(thread, signal));
  }

  async extend(thread: string, signal: AbortSignal): Promise<void> {
    const previous = await this.#documents.get(thread);
    const entries = await this.#feed.after(thread, previous?.cursor ?? '0-0', 200);
    const last = entries.at(-1);
    if (last === undefined) return;
    const lines = entries.map(({ event }) => event);
    const text = await this.#model({ task: 'summary', lines, previous: previous?.text }, { signal });
    const next = { text, cursor: last.cursor, messages: (previous?.messages ?? 0) + lines.length };
    // Another process may have stored a newer summary while this model was thinking.
    const stored = await this.#documents.update(thread, (current) =>
      current !== undefined && current.messages >= next.messages ? current : next,
    );
    if (stored === next) await this.#feed.notify(thread, 'summary');
  }
}
