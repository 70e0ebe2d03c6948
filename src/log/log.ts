import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { jsonOf } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkBytes } from '../base/size-options.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { corruptValue } from '../engine/reply.ts';
import { FIRST_STREAM_ID } from '../engine/stream.ts';
import { type LogEntry, parseEntry } from './entry.ts';
import { runHooks, wrongHookResult } from './hooks.ts';
import { logAppend } from './operations/append.ts';
import { logClear } from './operations/clear.ts';
import { logRead } from './operations/read.ts';
import type { StoredEntry } from './operations/stored-entry.ts';
import { type LogSettings, MAX_ENTRIES } from './options.ts';

const EVENT = 'log.append: the event';

/** Redis disconnects a subscriber for which 32 MB are waiting, and the announcement contains the event. */
const MAX_EVENT_BYTES = 2 ** 20;

/** A part of a log, oldest first. */
export interface LogPage<Event> {
  readonly entries: readonly LogEntry<Event>[];
  /** The cursor of the last entry that was read, also if it is not among `entries`; undefined if none was read. */
  readonly lastCursor: string | undefined;
  /** Whether further entries may follow. */
  readonly isFull: boolean;
}

export interface LogStoreDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

/** The logs of one name, in Redis. */
export class LogStore<Event> {
  readonly #settings: LogSettings<Event>;
  readonly #deps: LogStoreDeps;

  constructor(settings: LogSettings<Event>, deps: LogStoreDeps) {
    this.#settings = settings;
    this.#deps = deps;
  }

  /** Whether entries must pass hooks before listeners receive them. */
  get hasReadHooks(): boolean {
    return this.#settings.onRead.length > 0;
  }

  keyOf(id: string): string {
    return this.#deps.keys.log(this.#settings.name, id);
  }

  /** Stores the JSON of an event, without hooks. Resolves to its cursor. */
  async write(id: string, text: string, deadline?: Deadline): Promise<string> {
    const key = this.keyOf(id);
    const { limit, ttlMs } = this.#settings;
    const { found, cursor } = await this.#deps.engine.run(logAppend, [key], { limit, ttlMs, text }, deadline);
    if (found === 'corrupt') this.#corrupt(key);
    return cursor;
  }

  /** Runs the hooks on an event, and passes its JSON to `store`. */
  append(
    id: string,
    event: Event,
    store: (text: string) => Promise<string | undefined>,
  ): Promise<string | undefined> {
    const context = { id, event };
    return runHooks('kit.log: option `onAppend`', this.#settings.onAppend, context, async () => {
      const text = jsonOf(EVENT, context.event);
      checkBytes(EVENT, text, MAX_EVENT_BYTES, 'store the data elsewhere, and append its id');
      return store(text);
    });
  }

  async last(id: string, count: number): Promise<LogEntry<Event>[]> {
    const { entries } = await this.#read(id, undefined, count);
    return this.#shown(id, entries);
  }

  /** Reads on while a page has no entry that is readable and shown, so that an empty array means the end of the log. */
  async after(id: string, cursor: string, limit: number): Promise<LogEntry<Event>[]> {
    let page = await this.page(id, cursor, limit);
    while (page.entries.length === 0 && page.isFull && page.lastCursor !== undefined) {
      page = await this.page(id, page.lastCursor, limit);
    }
    return [...page.entries];
  }

  /** A page as followers receive it. */
  async page(id: string, cursor: string, count: number): Promise<LogPage<Event>> {
    const page = await this.#read(id, cursor, count);
    return { ...page, entries: await this.#shown(id, page.entries) };
  }

  /** The cursor of the newest entry; '0-0' for a log without entries. */
  async end(id: string): Promise<string> {
    const { entries } = await this.#deps.engine.run(logRead, [this.keyOf(id)], {
      after: undefined,
      count: 1,
    });
    return entries.at(-1)?.cursor ?? FIRST_STREAM_ID;
  }

  async clear(id: string): Promise<void> {
    await this.#deps.engine.run(logClear, [this.keyOf(id)], undefined);
  }

  /** Parses a stored entry. Reports an unreadable one, and returns undefined. */
  parse(key: string, stored: StoredEntry): LogEntry<Event> | undefined {
    const entry = parseEntry<Event>(stored);
    if (entry === undefined) this.#corrupt(`${key}, entry ${stored.cursor}`);
    return entry;
  }

  #corrupt(place: string): void {
    this.#deps.reporter.failure('log', corruptValue(`the value under ${place}`));
  }

  async #read(id: string, after: string | undefined, count: number): Promise<LogPage<Event>> {
    const key = this.keyOf(id);
    const { found, entries } = await this.#deps.engine.run(logRead, [key], { after, count });
    if (found === 'corrupt') this.#corrupt(key);
    return {
      entries: entries.map((stored) => this.parse(key, stored)).filter((entry) => entry !== undefined),
      lastCursor: entries.at(-1)?.cursor,
      isFull: entries.length === count,
    };
  }

  async #shown(id: string, entries: readonly LogEntry<Event>[]): Promise<LogEntry<Event>[]> {
    const { onRead } = this.#settings;
    const context = { id, events: [...entries] };
    if (onRead.length === 0) return context.events;
    const where = 'kit.log: option `onRead`';
    const shown: unknown = await runHooks(where, onRead, context, async () => context.events);
    if (Array.isArray(shown)) return shown as LogEntry<Event>[];
    throw wrongHookResult(where, shown);
  }
}

export function checkCount(call: string, name: string, count: unknown): void {
  const isCount = typeof count === 'number' && Number.isInteger(count) && count >= 1 && count <= MAX_ENTRIES;
  if (isCount) return;
  throw new ConfigError(
    `${call}: \`${name}\` is ${describe(count)}; it must be a whole number from 1 to ${MAX_ENTRIES}`,
  );
}

/** The parts of a cursor have at most 15 digits, so that they are exact as numbers. */
export function checkCursor(call: string, cursor: unknown): void {
  if (typeof cursor === 'string' && /^\d{1,15}-\d{1,15}$/.test(cursor)) return;
  throw new ConfigError(
    `${call}: the cursor is ${describe(cursor)}; it must be the \`cursor\` of an entry, or '${FIRST_STREAM_ID}' for the beginning`,
  );
}
