import { describe, suggestion } from './describe.ts';
import { ConfigError } from './errors.ts';

/** The events of a kit: `kit.on('connection:down', ({ error }) => ...)`. The part before the colon is the feature. */
export interface KitEvents {
  /** Redis is reachable, for the first time or again. */
  'connection:up': { readonly mode: 'standalone' | 'cluster' | 'sentinel' };
  /**
   * Redis is unreachable or refuses commands, for example since it is a replica. Each feature follows its failure policy
   * until Redis is back. Emitted once per outage.
   */
  'connection:down': { readonly error: Error };
  /**
   * `open`: a Redis node does not answer within the deadline, or refuses commands, so the kit sends it only probes.
   * `closed`: the node has answered a command again, or has left the cluster. Each state is emitted once per outage.
   */
  'connection:breaker': { readonly node: string; readonly state: 'open' | 'closed' };
  /** A session was stored for the first time. `handle` is the public handle of `kit.sessions`, not the secret id. */
  'session:created': { readonly handle: string };
  /** A request's session was read from the store. */
  'session:loaded': { readonly handle: string };
  /** `login()` or `regenerate()` replaced the session `previous` with a new one. */
  'session:rotated': { readonly handle: string; readonly previous: string };
  /** The app ended a session, by `logout()` or `destroy()`. */
  'session:destroyed': { readonly handle: string };
  /** A session was ended by `kit.sessions`, or because its user exceeded `maxPerUser`. */
  'session:revoked': { readonly handle: string };
  /** A session was not saved, since it has ended in the meantime or its new id is in use. */
  'session:conflict': { readonly handle: string };
  /** A stored session was unreadable and is treated as absent. */
  'session:corrupt': { readonly handle: string };
  /** A rate limiter refused a request. */
  'rate:refused': { readonly ids: readonly string[]; readonly policies: readonly string[] };
  /** A limiter works, but its configuration is probably a mistake. Each message is emitted once. */
  'rate:misuse': { readonly message: string };
  /** Redis was unavailable, so the in-process fallback decided. Emitted once per outage. */
  'rate:degraded': { readonly error: Error };
  /** A fresh stored response or cached value was used. `url` names a response, `key` a value of `kit.remember`. */
  'cache:hit': CacheSubject;
  /** No stored response or cached value can be used, so the handler or loader runs. */
  'cache:miss': CacheSubject;
  /** A stale response or value was used, because its refresh is still running or has failed. */
  'cache:stale': CacheSubject;
  /** A request or call received the result of a concurrent one, instead of running the handler or loader itself. */
  'cache:collapsed': CacheSubject;
  /** A response or value was stored. `bytes` is the stored size. */
  'cache:stored': CacheSubject & { readonly bytes: number };
  /** A response or value was not stored; `reason` says why. */
  'cache:skipped': CacheSubject & { readonly reason: string };
  /**
   * The kit's own request to revalidate a stale response did not reach the cache: middleware before the cache answered
   * the request with `status`, or closed it without an answer (`status` is undefined). The next attempt may succeed.
   * `isRevalidation(req)` identifies such requests.
   */
  'cache:refresh-refused': CacheSubject & { readonly status: number | undefined };
  /** This process invalidated cached data, for all processes. */
  'cache:purged': {
    readonly what: {
      readonly tags?: readonly string[];
      readonly url?: string;
      readonly key?: string;
      readonly all?: true;
    };
    readonly soft: boolean;
  };
  /** A lock was acquired. */
  'lock:acquired': { readonly keys: readonly string[] };
  /** A lock was acquired after waiting. */
  'lock:waited': { readonly keys: readonly string[]; readonly waitedMs: number };
  /** A lock was not acquired, since another holder kept it. */
  'lock:refused': { readonly keys: readonly string[] };
  /** A lease ended, or may have ended, while its holder was still running. */
  'lock:lost': { readonly keys: readonly string[]; readonly error: Error };
  /** A lock was released. */
  'lock:released': { readonly keys: readonly string[] };
  /** A request was answered with the recorded response of an earlier request with the same key. */
  'idempotency:replayed': { readonly key: string };
  /** The lease of an earlier attempt ended without a recorded response, so the request runs again. */
  'idempotency:recovered': { readonly key: string; readonly attempt: number };
  /** A request was refused; `reason` says why. `key` is undefined if the request has no valid key. */
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
  /** A request outlived its lease, and another request with its key has started: both may have taken effect. */
  'idempotency:lost': { readonly key: string; readonly attempt: number };
  /** A response exceeded `maxBody` and was not recorded; further requests with its key are refused. */
  'idempotency:unkept': { readonly key: string; readonly url: string; readonly bytes: number };
  /** A request was refused, since `limit` requests with its key were running. */
  'concurrency:refused': { readonly key: string; readonly limit: number; readonly running: number };
  /** A request got its slot after waiting. */
  'concurrency:waited': { readonly key: string; readonly waitedMs: number };
  /** Redis was unavailable, so this process counts only its own requests. Emitted once per outage. */
  'concurrency:degraded': { readonly error: Error };
  /** A client of `kit.sse` read too slowly: it was disconnected when `bytes` bytes waited for it. */
  'sse:overflow': { readonly channels: readonly string[]; readonly bytes: number };
  /**
   * A failure that no caller receives, because a failure policy or the kit itself handled it. `feature` is the feature
   * that failed, or `connection`. The same kind of error is emitted at most once in 30 seconds per feature, and an
   * outage of Redis once, unless Redis has recovered in between.
   */
  error: { readonly feature: string; readonly error: Error };
}

export interface CacheSubject {
  readonly url?: string;
  readonly key?: string;
}

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
  'sse:overflow': true,
  error: true,
};

/** Throws for an unknown event name, whose listener would never be called, and for a listener that is no function. */
export function checkListener(name: string, listener: unknown): void {
  if (!Object.hasOwn(EVENT_NAMES, name)) {
    const hint = suggestion(String(name), 'events', Object.keys(EVENT_NAMES));
    throw new ConfigError(`kit.on: there is no event '${String(name)}'; ${hint}`);
  }
  if (typeof listener === 'function') return;
  throw new ConfigError(`kit.on: the listener for '${name}' is ${describe(listener)}; it must be a function`);
}
