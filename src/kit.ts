import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import type { RedisClientType, RedisClusterType } from 'redis';
import { OptionReader } from './base/check.ts';
import { systemClock } from './base/clock.ts';
import type { Duration } from './base/duration.ts';
import { checkListener, Events, type KitEvents } from './base/events.ts';
import type { Keys } from './base/keys.ts';
import { OpenWork } from './base/open-work.ts';
import { Reporter } from './base/reporter.ts';
import { WeakRegistry } from './base/weak-registry.ts';
import {
  CacheMemory,
  type CacheOptions,
  type CachePolicies,
  Caches,
  cacheMiddleware,
  type Handler,
  type InvalidationTarget,
  invalidate,
  type Load,
  RememberedValues,
  type RememberOptions,
  type WarmEntry,
  type WarmOptions,
  type WarmResult,
  warmUp,
} from './cache/index.ts';
import { type ConcurrencyOptions, concurrencyMiddleware } from './concurrency/index.ts';
import { type BudgetOf, requestBudgets } from './engine/budget.ts';
import { memoryEngine } from './engine/memory-engine.ts';
import { MemoryKeyspace } from './engine/memory-keyspace.ts';
import type { Engine } from './engine/port.ts';
import type { Middleware, Req, Res } from './http/middleware.ts';
import { type IdempotencyOptions, idempotencyMiddleware } from './idempotency/index.ts';
import { type KitOptions, resolveKitOptions } from './kit-options.ts';
import { openStore, type Store } from './kit-store.ts';
import { KitLocks, type LockHandler, type LockOptions, type Locks, lockMiddleware } from './lock/index.ts';
import {
  type ExpressRateLimitStore,
  type ExpressRateLimitStoreOptions,
  type Limiter,
  LimiterCore,
  LimiterNames,
  makeExpressRateLimitStore,
  type Policy,
  type RateLimitOptions,
  rateLimitMiddleware,
  readPolicy,
} from './rate-limit/index.ts';
import {
  makeSessionStore,
  noSeal,
  type Seal,
  type SessionAdmin,
  SessionAdministration,
  type SessionOptions,
  type SessionStore,
  type StoreOptions,
  sessionMiddleware,
} from './session/index.ts';
import { Turns } from './waiting/turns.ts';

/** What `kit.client` is when the kit opened the connection itself: null on `memory:`. */
export type DefaultClient = RedisClientType | RedisClusterType | null;

/** Everything that a server keeps in Redis for its requests, on one connection and under one prefix. */
export interface RedisKit<Client = DefaultClient> {
  /** What every key begins with. */
  readonly prefix: string;
  /** The underlying client, for your own commands. Outside the kit's deadlines and failure policies. */
  readonly client: Client;
  /** Resolves with the first connection; rejects with a ConnectionError after 5 s. One that comes later is still used. */
  ready(): Promise<void>;
  /**
   * Lets commands in flight finish, up to `timeout` (default `'5s'`), and closes what the kit opened. May be called
   * again; a namespace's closes nothing.
   */
  close(options?: { readonly timeout?: Duration | undefined }): Promise<void>;
  /**
   * A kit on the same connection whose keys begin `<prefix>:<name>:`; the same name gives the same kit. Cheap enough to be
   * called for each request: namespaces share what this process holds, within the same bounds, and one that nothing
   * refers to costs nothing. Limiters belong to start-up here too: a second one of the same name is an error.
   */
  namespace(name: string): RedisKit<Client>;
  /** Calls the listener with every such event; answers with the way to stop that. */
  on<Name extends keyof KitEvents>(event: Name, listener: (event: KitEvents[Name]) => void): () => void;

  /** express-session's `req.session`, saved before the headers leave. */
  session<Request extends IncomingMessage = Req>(options?: SessionOptions<Request>): Middleware;
  /** The store for those who keep their own express-session. */
  sessionStore(options?: StoreOptions): SessionStore;
  /** Who is logged in where; lists and ends sessions. */
  readonly sessions: SessionAdmin;
  /** Refuses what exceeds a policy, with 429; sets `req.rateLimit`. */
  rateLimit<Request extends IncomingMessage = Req>(
    options: RateLimitOptions<Request>,
  ): Middleware & { readonly limiter: Limiter };
  /** The same policy without HTTP. */
  limiter(policy: Policy): Limiter;
  /** The store for those who keep express-rate-limit; its fixed windows are as inexact as ever. */
  expressRateLimitStore(options?: ExpressRateLimitStoreOptions): ExpressRateLimitStore;
  /** Answers GET and HEAD from stored responses, and stores what is made below it, or by the handler that is given. */
  cache<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    options?: CacheOptions<Request>,
    handler?: Handler<Request, Response>,
  ): Middleware;
  /** The value under a key, loaded where none is fresh. Kept as JSON, so everybody gets what JSON makes of it. */
  remember<Value>(key: string, options: Duration | RememberOptions, load: Load<Value>): Promise<Value>;
  /**
   * Makes what is cached invalid, or with `soft` stale. Resolves when Redis has recorded the purge: this process uses
   * nothing older from then on, other processes from the moment that they hear of it, a few milliseconds later. Rejects
   * when Redis is away: with a ConnectionError when nothing was purged, with a StoreError when that is unknown.
   */
  invalidate(target: InvalidationTarget): Promise<void>;
  /** Loads and stores values of `kit.remember` before anybody asks for them. */
  warm(entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>, options?: WarmOptions): Promise<WarmResult>;
  /**
   * Lets one request per key run at a time; the others wait, or are refused with 409. Sets `req.lock`, and holds it until
   * the response is over, or until the promise of the handler that is given settles.
   */
  lock<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    options: LockOptions<Request>,
    handler?: LockHandler<Request, Response>,
  ): Middleware;
  /** The same locks without HTTP. */
  readonly locks: Locks;
  /** Lets so many requests per key run at once, in all processes; the others wait, or are refused with 429. */
  concurrency<Request extends IncomingMessage = Req>(options: ConcurrencyOptions<Request>): Middleware;
  /** Runs a request once per Idempotency-Key, and answers its repeats as the first; sets `req.idempotency`. */
  idempotency<Request extends IncomingMessage = Req>(options?: IdempotencyOptions<Request>): Middleware;
}

/** What a kit and its namespaces share. */
interface Shared extends Store {
  readonly standIn: Engine;
  readonly standInTurns: Turns;
  readonly reporter: Reporter;
  readonly budgetOf: BudgetOf;
  readonly policies: CachePolicies;
  readonly closing: AbortSignal;
  /** What closing waits for. */
  readonly work: OpenWork;
  readonly turns: Turns;
  readonly limiterNames: LimiterNames;
  /** Made with the first cache, since it listens. */
  cacheMemory(): CacheMemory;
}

/** The state of a kit or of one of its namespaces. Middleware and limiters refer to it, and so keep the namespace alive. */
interface Namespace<Client> extends Shared {
  readonly keys: Keys;
  readonly isRoot: boolean;
  readonly isMemory: boolean;
  /** The seals of its session middleware; administration opens sessions with them. */
  readonly seals: Set<Seal>;
  namespace(name: string): RedisKit<Client>;
  kit(): RedisKit<Client>;
}

/**
 * Makes a kit and begins to connect. A Redis that is down does not stop it: each feature follows its failure policy
 * until Redis comes. Throws a ConfigError when the options are wrong.
 */
export function createRedisKit<Client = DefaultClient>(options: KitOptions<Client> = {}): RedisKit<Client> {
  const settings = resolveKitOptions(options, process.env);
  const { commandTimeoutMs, logger } = settings;
  const events = new Events<KitEvents>(logger);
  const closing = new AbortController();
  // Each middleware that lets requests wait listens; that is no leak.
  setMaxListeners(0, closing.signal);
  const work = new OpenWork();
  const channels = settings.keys.callChannels();
  const standInMemory = new MemoryKeyspace(systemClock);
  const reporter = new Reporter(events, logger);
  for (const warning of settings.warnings) reporter.warning(warning);
  const common = {
    reporter,
    limiterNames: new LimiterNames(reporter),
    standIn: memoryEngine(standInMemory, systemClock),
    standInTurns: new Turns(standInMemory, channels, closing.signal),
    budgetOf: requestBudgets(commandTimeoutMs),
    policies: settings.cachePolicies,
    closing: closing.signal,
    work,
  };
  const store = openStore(settings, events);
  const turns = new Turns(store.listening, channels, closing.signal);

  async function close(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    closing.abort();
    await work.ended(timeoutMs);
    await store.close(Math.max(0, until - performance.now()));
  }

  let madeMemory: CacheMemory | undefined;
  function cacheMemory(): CacheMemory {
    madeMemory ??= new CacheMemory(store.listening, settings.keys.cacheChannel());
    return madeMemory;
  }

  const shared = { ...common, ...store, turns, close, cacheMemory };
  const namespaces = new WeakRegistry<Namespace<Client>>();
  function kitIn(keys: Keys): RedisKit<Client> {
    const make = (): Namespace<Client> => {
      const own: Namespace<Client> = {
        ...shared,
        keys,
        isRoot: keys === settings.keys,
        isMemory: shared.connection === undefined,
        seals: new Set([noSeal]),
        namespace: (name) => kitIn(keys.namespace(name)),
        kit: () => kit,
      };
      const kit = kitOf(own);
      return own;
    };
    return namespaces.get(keys.prefix, make).kit();
  }

  return kitIn(settings.keys);
}

function kitOf<Client>(deps: Namespace<Client>): RedisKit<Client> {
  const { keys, connection, reporter } = deps;
  const claimLimiterNames = (names: readonly string[]) => deps.limiterNames.claim(keys.prefix, names);
  let madeCaches: Caches | undefined;

  function caches(): Caches {
    madeCaches ??= new Caches(deps, deps.cacheMemory());
    return madeCaches;
  }

  const valuesDeps = () => ({ ...deps, values: caches().values });
  let madeValues: RememberedValues | undefined;
  function remembered(): RememberedValues {
    madeValues ??= new RememberedValues(valuesDeps());
    return madeValues;
  }

  return Object.freeze({
    prefix: keys.prefix,
    client: (connection?.client ?? null) as Client,
    locks: new KitLocks(deps),
    ready: () => deps.ready(),
    close: async (options: { readonly timeout?: Duration | undefined } = {}) => {
      const timeoutMs = new OptionReader('kit.close', options, ['timeout']).duration('timeout', '5s');
      if (deps.isRoot) await deps.close(timeoutMs);
    },
    namespace: deps.namespace,
    on<Name extends keyof KitEvents>(event: Name, listener: (event: KitEvents[Name]) => void) {
      checkListener(event, listener);
      return reporter.events.on(event, listener);
    },
    session: (options: SessionOptions<never> = {}) => sessionMiddleware(options, deps),
    sessionStore: (options: StoreOptions = {}) => makeSessionStore(options, deps),
    sessions: new SessionAdministration(deps, deps.seals),
    rateLimit: (options: RateLimitOptions<never>) => rateLimitMiddleware(options, deps, claimLimiterNames),
    limiter(policy: Policy) {
      const settings = readPolicy('kit.limiter', policy);
      claimLimiterNames([settings.name]);
      const rest = { onError: 'memory', onDenied: 'ignore', denyCache: undefined } as const;
      return new LimiterCore({ policies: [settings], ...rest }, deps);
    },
    expressRateLimitStore: (options: ExpressRateLimitStoreOptions = {}) =>
      makeExpressRateLimitStore(options, deps, claimLimiterNames),
    cache: (options: CacheOptions<never> = {}, handler?: Handler<never, never>) =>
      cacheMiddleware(options, { ...deps, caches: caches() }, handler),
    remember: <Value>(key: string, options: Duration | RememberOptions, load: Load<Value>) =>
      remembered().remember(key, options, load),
    invalidate: (target: InvalidationTarget) => invalidate(target, { ...deps, versions: caches().versions }),
    warm: (entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>, options: WarmOptions = {}) =>
      warmUp(entries, options, remembered(), valuesDeps()),
    lock: (options: LockOptions<never>, handler?: LockHandler<never, never>) =>
      lockMiddleware(options, deps, handler),
    concurrency: (options: ConcurrencyOptions<never>) => concurrencyMiddleware(options, deps),
    idempotency: (options: IdempotencyOptions<never> = {}) => idempotencyMiddleware(options, deps),
  });
}
