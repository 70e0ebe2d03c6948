import { asError } from '../base/errors.ts';
import { isThenable } from '../base/thenable.ts';
import { compareStreamIds } from '../engine/stream.ts';
import type { LogEntry } from './entry.ts';
import type { LogPage } from './log.ts';

/** Receives the entries of a log. */
export type LogListener<Event> = (entry: LogEntry<Event>) => unknown;

/** The log of a follower. */
export interface FollowedLog<Event> {
  page(cursor: string): Promise<LogPage<Event>>;
  failed(error: Error): void;
}

/** A new entry, and the cursor of the one before it. */
export interface AnnouncedEntry<Event> {
  readonly previous: string;
  readonly cursor: string;
  /** Undefined if the entry must be read from Redis. */
  readonly entry: LogEntry<Event> | undefined;
}

const RETRY_AFTER_MS = 1_000;

/**
 * Delivers the entries after a position to a listener: in order, each once, and one at a time if the listener returns a
 * promise. A follower keeps no entries: while it is busy, it only notes that there are more, and reads them later.
 */
export class LogFollower<Event> {
  readonly #log: FollowedLog<Event>;
  readonly #listener: LogListener<Event>;
  #position: string;
  #isBusy = false;
  #hasMore = false;
  #isStopped = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(log: FollowedLog<Event>, position: string, listener: LogListener<Event>) {
    this.#log = log;
    this.#position = position;
    this.#listener = listener;
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#retry);
  }

  /** Moves to the end of the log. Entries that are announced meanwhile are read afterwards. */
  async moveToEnd(end: () => Promise<string>): Promise<void> {
    this.#isBusy = true;
    this.#position = await end();
    this.#rest();
  }

  /** Receives an announced entry; undefined announces that there may be more entries. */
  announced(announced: AnnouncedEntry<Event> | undefined): void {
    const { entry } = announced ?? {};
    if (announced === undefined || entry === undefined || this.#isBusy) {
      this.catchUp();
      return;
    }
    if (compareStreamIds(announced.cursor, this.#position) <= 0) return;
    // A message was lost if an entry between the position and this one was announced.
    if (compareStreamIds(announced.previous, this.#position) > 0) {
      this.catchUp();
      return;
    }
    this.#position = announced.cursor;
    const delivery = this.#deliver(entry);
    if (delivery === undefined) return;
    this.#isBusy = true;
    void delivery.then(() => this.#rest());
  }

  /** Reads and delivers all entries after the position; once the follower is no longer busy, if it is. */
  catchUp(): void {
    this.#hasMore = true;
    if (this.#isBusy || this.#isStopped) return;
    clearTimeout(this.#retry);
    this.#isBusy = true;
    void this.#readAll().then(
      () => this.#rest(),
      (error: unknown) => {
        this.#isBusy = false;
        if (this.#isStopped) return;
        this.#log.failed(asError(error));
        this.#retry = setTimeout(() => this.catchUp(), RETRY_AFTER_MS).unref();
      },
    );
  }

  #rest(): void {
    this.#isBusy = false;
    if (this.#hasMore) this.catchUp();
  }

  async #readAll(): Promise<void> {
    while (this.#hasMore && !this.#isStopped) {
      this.#hasMore = false;
      const { entries, lastCursor, isFull } = await this.#log.page(this.#position);
      for (const entry of entries) await this.#deliver(entry);
      // Also moves over entries that are unreadable or that a hook has left out.
      this.#position = lastCursor ?? this.#position;
      this.#hasMore ||= isFull;
    }
  }

  /** Returns a promise, which never rejects, only if the listener has returned one. */
  #deliver(entry: LogEntry<Event>): Promise<void> | undefined {
    if (this.#isStopped) return undefined;
    const failed = (error: unknown) => this.#log.failed(asError(error));
    try {
      const result: unknown = this.#listener(entry);
      return isThenable(result) ? Promise.resolve(result).then(() => undefined, failed) : undefined;
    } catch (error) {
      failed(error);
      return undefined;
    }
  }
}
