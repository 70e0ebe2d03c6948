import { setTimeout as pause } from 'node:timers/promises';
import { ConfigError } from '../base/errors.ts';
import type { EventStream } from './event-stream.ts';
import { frameOf } from './frames.ts';
import type { ReplayEntry, ReplayLog } from './options.ts';
import type { Position } from './position.ts';

const RETRY_AFTER_MS = 1_000;

export interface ReplayDeps {
  readonly log: ReplayLog;
  /** Builds the lines of an entry without its id, once for all streams. */
  linesOf(entry: ReplayEntry, channel: string): string;
  /** Receives errors of the log, after which the stream tries again. */
  failed(error: unknown): void;
}

/** Sends the entries of a log to one stream, from its position on. */
export class Replay {
  readonly #deps: ReplayDeps;
  readonly #stream: EventStream;
  readonly #position: Position;
  readonly #ending = new AbortController();

  constructor(stream: EventStream, position: Position, deps: ReplayDeps) {
    this.#stream = stream;
    this.#position = position;
    this.#deps = deps;
    stream.onEnd(() => this.#ending.abort());
  }

  /**
   * Resolves when the channel is followed, or when the log has failed for the first time: the stream then opens, and
   * follows once the log can be read. Rejects with a ConfigError for a value that is no id of a log.
   */
  async begin(channel: string): Promise<void> {
    try {
      await this.#follow(channel);
    } catch (error) {
      if (this.#stream.isEnded) return;
      if (error instanceof ConfigError) throw error;
      this.#deps.failed(error);
      void this.#followLater(channel);
    }
  }

  async #followLater(channel: string): Promise<void> {
    while (!this.#stream.isEnded) {
      try {
        await pause(RETRY_AFTER_MS, undefined, { signal: this.#ending.signal, ref: false });
        await this.#follow(channel);
        // The head was sent without the position.
        this.#stream.send(frameOf('', this.#position.id));
        return;
      } catch (error) {
        if (!this.#stream.isEnded) this.#deps.failed(error);
      }
    }
  }

  async #follow(channel: string): Promise<void> {
    const { log } = this.#deps;
    const known = this.#position.of(channel);
    try {
      if (known !== undefined) return await this.#followFrom(channel, known);
    } catch (error) {
      // The client sent a value that is no cursor.
      if (!(error instanceof ConfigError)) throw error;
    }
    const end = await log.end(channel);
    this.#position.set(channel, end);
    await this.#followFrom(channel, end);
  }

  async #followFrom(channel: string, after: string): Promise<void> {
    const { signal } = this.#ending;
    await this.#deps.log.follow(channel, (entry) => this.#send(entry, channel), { after, signal });
  }

  /**
   * Returns a promise while the stream is not open yet or the client reads slowly: the log keeps the next entries until it
   * resolves. The position moves only when the entry is sent, since the head of the stream contains the position.
   */
  #send(entry: ReplayEntry, channel: string): Promise<void> | undefined {
    const send = () => {
      this.#position.set(channel, entry.cursor);
      this.#stream.send(frameOf(this.#deps.linesOf(entry, channel), this.#position.id));
    };
    const unblocked = this.#stream.whenUnblocked();
    if (unblocked === undefined) send();
    return unblocked?.then(send);
  }
}
