import { onAbort } from '../base/abort.ts';
import { closedError } from '../base/errors.ts';
import { frozenJson } from '../base/json.ts';
import type { Reporter } from '../base/reporter.ts';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { FIRST_STREAM_ID } from '../engine/stream.ts';
import { parseAnnouncement } from './announcement.ts';
import { type AnnouncedEntry, type FollowedLog, LogFollower, type LogListener } from './follower.ts';
import type { LogPage, LogStore } from './log.ts';
import { ENTRY_FORMAT } from './operations/stored-entry.ts';

/** The most entries that a follower reads with one command. */
const PAGE_SIZE = 100;

export interface FollowOptions {
  /** The cursor of the last entry that the listener knows; `'0-0'` is before all entries. */
  readonly after?: string | undefined;
  /** Ends the following. */
  readonly signal?: AbortSignal | undefined;
}

export interface FollowersDeps {
  readonly pubSub: PubSub;
  readonly reporter: Reporter;
  readonly closing: AbortSignal;
}

/** The followers of the logs of one name in this process. Followers of one id share a subscription. */
export class LogFollowers<Event> {
  readonly #store: LogStore<Event>;
  readonly #deps: FollowersDeps;
  readonly #channels = new Map<string, LogChannel<Event>>();

  constructor(store: LogStore<Event>, deps: FollowersDeps) {
    this.#store = store;
    this.#deps = deps;
  }

  /** Follows from `after`, or from the end of the log. Resolves to a function that ends the following. */
  async follow(
    id: string,
    listener: LogListener<Event>,
    { after, signal }: FollowOptions,
  ): Promise<() => Promise<void>> {
    const { closing } = this.#deps;
    const checkOpen = () => {
      signal?.throwIfAborted();
      if (closing.aborted) throw closedError();
    };
    checkOpen();
    const channel = this.#channelOf(id);
    const follower = new LogFollower(channel, after ?? FIRST_STREAM_ID, listener);
    channel.followers.add(follower);
    const signals = [closing, ...(signal === undefined ? [] : [signal])];
    const stopListening = signals.map((each) => onAbort(each, stop));
    function stop(): void {
      for (const stopEach of stopListening) stopEach();
      follower.stop();
      channel.remove(follower);
    }
    try {
      if (after === undefined) await follower.moveToEnd(() => this.#store.end(id));
      else if (channel.isUp) follower.catchUp();
      checkOpen();
    } catch (error) {
      stop();
      throw error;
    }
    return async () => stop();
  }

  /** The channel of an id, which subscribes with its first follower. */
  #channelOf(id: string): LogChannel<Event> {
    const known = this.#channels.get(id);
    if (known !== undefined) return known;
    const channel = new LogChannel(this.#store, id, this.#deps.reporter);
    this.#channels.set(id, channel);
    const unsubscribe = this.#deps.pubSub.subscribe(this.#store.keyOf(id), channel);
    channel.whenEmpty(() => {
      this.#channels.delete(id);
      unsubscribe();
    });
    return channel;
  }
}

/** The subscription to the announcements of one log, and the reads of its followers. */
class LogChannel<Event> implements ChannelListener, FollowedLog<Event> {
  readonly followers = new Set<LogFollower<Event>>();
  isUp = false;
  readonly #store: LogStore<Event>;
  readonly #id: string;
  readonly #reporter: Reporter;
  /** The reads of this turn, by their cursor. */
  readonly #pages = new Map<string, Promise<LogPage<Event>>>();
  #end: () => void = () => undefined;

  constructor(store: LogStore<Event>, id: string, reporter: Reporter) {
    this.#store = store;
    this.#id = id;
    this.#reporter = reporter;
  }

  whenEmpty(end: () => void): void {
    this.#end = end;
  }

  remove(follower: LogFollower<Event>): void {
    if (this.followers.delete(follower) && this.followers.size === 0) this.#end();
  }

  onStatus(isUp: boolean): void {
    this.isUp = isUp;
    if (isUp) for (const follower of [...this.followers]) follower.catchUp();
  }

  onMessage(message: string): void {
    const announced = this.#announcedEntry(message);
    for (const follower of [...this.followers]) follower.announced(announced);
  }

  /**
   * Followers that read from the same cursor in one turn share a command. An earlier command may have missed the entry
   * for which a follower reads.
   */
  page(cursor: string): Promise<LogPage<Event>> {
    const known = this.#pages.get(cursor);
    if (known !== undefined) return known;
    const page = this.#store.page(this.#id, cursor, PAGE_SIZE).then((read) => this.#shared(read));
    if (this.#pages.size === 0) queueMicrotask(() => this.#pages.clear());
    this.#pages.set(cursor, page);
    return page;
  }

  failed(error: Error): void {
    this.#reporter.failure('log', error);
  }

  /** Parsed once for all followers; undefined if the entries must be read. */
  #announcedEntry(message: string): AnnouncedEntry<Event> | undefined {
    const announcement = this.#store.hasReadHooks ? undefined : parseAnnouncement(message);
    if (announcement === undefined) return undefined;
    const { previous, cursor, text } = announcement;
    const entry = this.#store.parse(this.#store.keyOf(this.#id), { cursor, format: ENTRY_FORMAT, text });
    return { previous, cursor, entry: frozenJson(entry) };
  }

  /** Freezes the entries that several followers receive. An object that a hook returns may belong to the app. */
  #shared(page: LogPage<Event>): LogPage<Event> {
    return this.#store.hasReadHooks ? page : { ...page, entries: frozenJson(page.entries) };
  }
}
