import { inspect } from 'node:util';
import { describe, hintAt } from './check.ts';
import { ConfigError } from './errors.ts';
import type { Logger } from './logger.ts';

/** Everything that a kit tells of, by name: `kit.on('connection:down', ...)`. Names are `<room>:<what>`. */
export interface KitEvents {
  /** Redis can be reached: for the first time, or again. */
  'connection:up': { readonly mode: 'standalone' | 'cluster' };
  /** Redis cannot be reached; each feature follows its failure policy until it comes back. */
  'connection:down': { readonly error: Error };
  /**
   * A node stopped answering within the deadline (`open`: it is sent PING only), or has answered a command again
   * (`closed`). Once each for an outage.
   */
  'connection:breaker': { readonly node: string; readonly state: 'open' | 'closed' };
  /** Sessions are named by their public handles, as `kit.sessions` does; their ids are told nowhere. */
  'session:created': { readonly handle: string };
  'session:loaded': { readonly handle: string };
  /** A login or `regenerate()` has put a new session in the place of another. */
  'session:rotated': { readonly handle: string; readonly previous: string };
  'session:destroyed': { readonly handle: string };
  /** Ended by an administrator, or to make room for another of the same user. */
  'session:revoked': { readonly handle: string };
  /** A save was dropped, since the session had ended in the meantime. */
  'session:conflict': { readonly handle: string };
  /** A stored session could not be read and counts as absent. */
  'session:corrupt': { readonly handle: string };
  'rate:refused': { readonly ids: readonly string[]; readonly policies: readonly string[] };
  /** Something about a limiter that works and should not be so. Told once. */
  'rate:misuse': { readonly message: string };
  /** The in-process stand-in decided, since Redis could not. Once per outage. */
  'rate:degraded': { readonly error: Error };
  /** What is cached is named by its `url`, or, for `kit.remember`, by its `key`. */
  'cache:hit': CacheSubject;
  /** The handler or the loader runs: nothing that is stored may be used, or the handler is asked to validate it. */
  'cache:miss': CacheSubject;
  /** Answered with what is no longer fresh: while it is made anew, or since that failed. */
  'cache:stale': CacheSubject;
  /** Answered with what was made for another request at the same time. */
  'cache:collapsed': CacheSubject;
  'cache:stored': CacheSubject & { readonly bytes: number };
  /** It was not stored, and why. */
  'cache:skipped': CacheSubject & { readonly reason: string };
  /**
   * Middleware above the cache answered the request that was to revalidate a stale response, with this status or with
   * none; the next try may succeed. `isRevalidation(req)` is true for such requests.
   */
  'cache:refresh-refused': CacheSubject & { readonly status: number | undefined };
  /** This process invalidated something, in all of them. */
  'cache:purged': {
    readonly what: {
      readonly tags?: readonly string[];
      readonly url?: string;
      readonly key?: string;
      readonly all?: true;
    };
    readonly soft: boolean;
  };
  'lock:acquired': { readonly keys: readonly string[] };
  /** Acquired, but not at once. */
  'lock:waited': { readonly keys: readonly string[]; readonly waitedMs: number };
  'lock:refused': { readonly keys: readonly string[] };
  /** The lease ended, or may have, while its holder still worked. */
  'lock:lost': { readonly keys: readonly string[]; readonly error: Error };
  'lock:released': { readonly keys: readonly string[] };
  /** Answered with what an earlier request with the same key was answered. */
  'idempotency:replayed': { readonly key: string };
  /** An earlier run with the same key never came to its end, and its lease has: the request runs again. */
  'idempotency:recovered': { readonly key: string; readonly attempt: number };
  /** A request did not run, and why. `key` is undefined where none could be read. */
  'idempotency:refused': {
    readonly key: string | undefined;
    readonly reason:
      | 'missing-key'
      | 'malformed-key'
      | 'in-flight'
      | 'mismatch'
      | 'unkept'
      | 'unread-body'
      | 'deep-body';
  };
  /** A run went on after its lease had ended, and another request with its key has begun meanwhile: both may have run. */
  'idempotency:lost': { readonly key: string; readonly attempt: number };
  /** An answer was larger than `maxBody`, so requests with this key are refused from now on. */
  'idempotency:unkept': { readonly key: string; readonly url: string; readonly bytes: number };
  /** A request was refused, since so many with its key were running. */
  'concurrency:refused': { readonly key: string; readonly limit: number; readonly running: number };
  /** A request got its slot, but not at once. */
  'concurrency:waited': { readonly key: string; readonly waitedMs: number };
  /** This process counts for itself, since Redis could not be asked. Once per outage. */
  'concurrency:degraded': { readonly error: Error };
  /** Something went wrong that the room's failure policy covered. Told once a while, not once a request. */
  error: { readonly feature: string; readonly error: Error };
}

export interface CacheSubject {
  readonly url?: string;
  readonly key?: string;
}

type Listener<Event> = (event: Event) => void;

/** A typed emitter whose listeners cannot disturb the request that told them something. */
export class Events<EventMap extends object> {
  readonly #listeners = new Map<keyof EventMap, Set<Listener<never>>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  on<Name extends keyof EventMap>(name: Name, listener: Listener<EventMap[Name]>): () => void {
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(name, listeners);
    }
    const entry: Listener<EventMap[Name]> = (event) => listener(event);
    listeners.add(entry);
    return () => void listeners.delete(entry);
  }

  emit<Name extends keyof EventMap>(name: Name, event: EventMap[Name]): void {
    const listeners = this.#listeners.get(name);
    if (listeners === undefined) return;
    const failed = (error: unknown) =>
      this.#logger.error(`a listener for '${String(name)}' failed: ${inspect(error)}`);
    // A copy: listeners may come and go while they are told.
    for (const listener of [...listeners]) {
      callListener(() => (listener as (event: EventMap[Name]) => unknown)(event), failed);
    }
  }
}

/** Calls what somebody else wrote; what it throws, or rejects with later, is told to `failed` and disturbs nobody. */
export function callListener(call: () => unknown, failed: (error: unknown) => void): void {
  try {
    const result = call();
    // Any promise, since another library's is no `Promise` of this realm.
    if (typeof result === 'object' && result !== null && 'then' in result) {
      Promise.resolve(result).catch(failed);
    }
  } catch (error) {
    failed(error);
  }
}

/** Every event there is, for those who ask for one that is not. */
const EVENT_NAMES: Readonly<Record<keyof KitEvents, true>> = {
  'connection:up': true,
  'connection:down': true,
  'connection:breaker': true,
  'session:created': true,
  'session:loaded': true,
  'session:rotated': true,
  'session:destroyed': true,
  'session:revoked': true,
  'session:conflict': true,
  'session:corrupt': true,
  'rate:refused': true,
  'rate:misuse': true,
  'rate:degraded': true,
  'cache:hit': true,
  'cache:miss': true,
  'cache:stale': true,
  'cache:collapsed': true,
  'cache:stored': true,
  'cache:skipped': true,
  'cache:refresh-refused': true,
  'cache:purged': true,
  'lock:acquired': true,
  'lock:waited': true,
  'lock:refused': true,
  'lock:lost': true,
  'lock:released': true,
  'idempotency:replayed': true,
  'idempotency:recovered': true,
  'idempotency:refused': true,
  'idempotency:lost': true,
  'idempotency:unkept': true,
  'concurrency:refused': true,
  'concurrency:waited': true,
  'concurrency:degraded': true,
  error: true,
};

/** A listener would wait for ever for an event whose name is misspelled. */
export function checkListener(name: string, listener: unknown): void {
  if (!Object.hasOwn(EVENT_NAMES, name)) {
    const hint = hintAt(String(name), 'events', Object.keys(EVENT_NAMES));
    throw new ConfigError(`kit.on: there is no event '${String(name)}'; ${hint}`);
  }
  if (typeof listener === 'function') return;
  throw new ConfigError(`kit.on: the listener for '${name}' is ${describe(listener)}; it must be a function`);
}
