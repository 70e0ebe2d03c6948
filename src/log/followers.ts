import { onAbort } from '../base/abort.ts';
import { closedError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { ChannelListener, PubSub } from '../engine/pub-sub.ts';
import { FIRST_STREAM_ID } from '../engine/stream.ts';
import { parseAnnouncement } from './announcement.ts';
import { type AnnouncedEntry, type FollowedLog, LogFollower, type LogListener } from './follower.ts';
import type { LogStore } from './log.ts';
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
    const follower = new LogFollower(channel.log, after ?? FIRST_STREAM_ID, listener);
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
    const log: FollowedLog<Event> = {
      page: (cursor) => this.#store.page(id, cursor, PAGE_SIZE),
      failed: (error) => this.#deps.reporter.failure('log', error),
    };
    const channel = new LogChannel(this.#store, id, log);
    this.#channels.set(id, channel);
    const unsubscribe = this.#deps.pubSub.subscribe(this.#store.keyOf(id), channel);
    channel.whenEmpty(() => {
      this.#channels.delete(id);
      unsubscribe();
    });
    return channel;
  }
}

/** The subscription to the announcements of one log. */
class LogChannel<Event> implements ChannelListener {
  readonly log: FollowedLog<Event>;
  readonly followers = new Set<LogFollower<Event>>();
  isUp = false;
  readonly #store: LogStore<Event>;
  readonly #key: string;
  #end: () => void = () => undefined;

  constructor(store: LogStore<Event>, id: string, log: FollowedLog<Event>) {
    this.log = log;
    this.#store = store;
    this.#key = store.keyOf(id);
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

  /** Parsed once for all followers; undefined if the entries must be read. */
  #announcedEntry(message: string): AnnouncedEntry<Event> | undefined {
    const announcement = this.#store.hasReadHooks ? undefined : parseAnnouncement(message);
    if (announcement === undefined) return undefined;
    const { previous, cursor, text } = announcement;
    const entry = this.#store.parse(this.#key, { cursor, format: ENTRY_FORMAT, text });
    return { previous, cursor, entry };
  }
}
