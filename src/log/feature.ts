import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import { checkedIdentity } from '../base/identity.ts';
import type { Json } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Middleware, Req } from '../http/middleware.ts';
import type { WorkQueueDeps } from '../waiting/work-queue.ts';
import type { LogEntry } from './entry.ts';
import type { LogListener } from './follower.ts';
import { type FollowersDeps, type FollowOptions, LogFollowers } from './followers.ts';
import { checkCount, checkCursor, LogStore, type LogStoreDeps } from './log.ts';
import { logMiddleware, type RequestEvent } from './middleware.ts';
import { type LogOptions, resolveLogOptions } from './options.ts';
import { WriteBehind } from './write-behind.ts';

/** Histories of events, one per id. All methods reject with a ConfigError for a wrong argument. */
export interface Log<Event> {
  /**
   * Appends an event, which JSON must be able to represent. Resolves to its cursor, or to undefined if a hook has
   * refused it. Rejects with a ConnectionError if nothing was stored, and with a StoreError if the event may be stored.
   * With `writeBehind`, it resolves to undefined as soon as the event is in the queue.
   */
  append(id: string, event: Event): Promise<string | undefined>;
  /** Resolves to the last `n` entries, oldest first. One command, however long the log is. */
  last(id: string, n: number): Promise<LogEntry<Event>[]>;
  /**
   * Resolves to up to `limit` (default 100) entries after a cursor, oldest first; an empty array means that there are no
   * more. The cursor `'0-0'` is before all entries. Continues with the oldest entry if those before it were removed.
   */
  after(id: string, cursor: string, limit?: number): Promise<LogEntry<Event>[]>;
  /** Resolves to the cursor of the newest entry, to continue from there; `'0-0'` if there is none. One command. */
  end(id: string): Promise<string>;
  /**
   * Calls the listener with every entry after the cursor `after`, or with every entry from now on: in order, each once,
   * also across lost connections. While a promise that the listener returned is pending, the next entry waits. Resolves
   * to an unsubscribe function. Rejects if the end of the log cannot be read, which is not needed with `after`. Errors
   * later on are emitted as `error`, and following continues. Ends with `signal` and with `kit.close()`.
   */
  follow(id: string, listener: LogListener<Event>, options?: FollowOptions): Promise<() => Promise<void>>;
  /** Removes all entries of an id. */
  clear(id: string): Promise<void>;
  /**
   * Returns a middleware that appends one event per request, when the response was sent or its client has left:
   * `res.statusCode` is final, and `res.writableFinished` is false for a client that has left. A failure is emitted as
   * `error` and does not affect the response. With `writeBehind`, an event that finds the queue full is lost and reported.
   */
  middleware<Request extends IncomingMessage = Req>(event: RequestEvent<Event, Request>): Middleware;
}

export interface LogMethods {
  /** Creates histories of events under a name, such as the messages of each chat or the recent activity of each user. */
  log<Event = Json>(name: string, options: LogOptions<Event>): Log<Event>;
}

interface LogDeps extends Omit<LogStoreDeps, 'keys'>, FollowersDeps, WorkQueueDeps {
  readonly failurePolicies: FailurePolicies;
}

export function logFeature(kit: LogDeps) {
  return (keys: Keys): LogMethods => ({
    log: <Event>(name: string, options: LogOptions<Event>) =>
      createLog<Event>(name, options, { ...kit, keys }),
  });
}

function createLog<Event>(
  name: string,
  options: LogOptions<Event>,
  deps: LogDeps & Pick<LogStoreDeps, 'keys'>,
): Log<Event> {
  const settings = resolveLogOptions(checkedIdentity('kit.log: the name', name), options);
  deps.failurePolicies.record('log', 'reject');
  const store = new LogStore<Event>(settings, deps);
  const followers = new LogFollowers<Event>(store, deps);

  const { writeBehind } = settings;
  const queue = writeBehind === undefined ? undefined : new WriteBehind(writeBehind, store, deps);

  async function append(id: string, event: Event): Promise<string | undefined> {
    checkedIdentity('log.append: the id', id);
    return store.append(id, event, (text) => queue?.push(id, text) ?? store.write(id, text));
  }

  /** No caller waits for space in the queue or receives its errors, so the queue reports them with the event. */
  async function appendOfRequest(id: string, event: Event): Promise<void> {
    await store.append(id, event, (text) => queue?.pushOrReport(id, text) ?? store.write(id, text));
  }

  return Object.freeze({
    append,

    async last(id: string, n: number) {
      checkedIdentity('log.last: the id', id);
      checkCount('log.last', 'n', n);
      return store.last(id, n);
    },

    async after(id: string, cursor: string, limit = 100) {
      checkedIdentity('log.after: the id', id);
      checkCursor('log.after', cursor);
      checkCount('log.after', 'limit', limit);
      return store.after(id, cursor, limit);
    },

    async end(id: string) {
      checkedIdentity('log.end: the id', id);
      return store.end(id);
    },

    async follow(id: string, listener: LogListener<Event>, options: FollowOptions = {}) {
      checkedIdentity('log.follow: the id', id);
      const { after, signal } = followOptions(listener, options);
      return followers.follow(id, listener, { after, signal });
    },

    async clear(id: string) {
      checkedIdentity('log.clear: the id', id);
      await store.clear(id);
    },

    middleware: (event: RequestEvent<Event, never>) => logMiddleware(event, appendOfRequest, deps),
  });
}

function followOptions(listener: unknown, options: FollowOptions): FollowOptions {
  if (typeof listener !== 'function') {
    throw new ConfigError(`log.follow: the listener is ${describe(listener)}; it must be a function`);
  }
  const reader = new OptionReader('log.follow', options, ['after', 'signal']);
  if (reader.has('after')) checkCursor('log.follow', reader.value('after'));
  return { after: options.after, signal: reader.abortSignal('signal') };
}
