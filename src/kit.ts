import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import type { RedisClientType, RedisClusterType } from 'redis';
import { OptionReader } from './base/check.ts';
import { systemClock } from './base/clock.ts';
import type { Duration } from './base/duration.ts';
import { ConfigError, closedError } from './base/errors.ts';
import { checkListener, Events, type KitEvents } from './base/events.ts';
import type { Keys } from './base/keys.ts';
import { OpenWork } from './base/open-work.ts';
import { Reporter } from './base/reporter.ts';
import {
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
import { connect } from './connection/connect.ts';
import type { Connection } from './connection/connection.ts';
import { type BudgetOf, requestBudgets } from './engine/budget.ts';
import type { Listening } from './engine/listening.ts';
import { memoryEngine } from './engine/memory-engine.ts';
import { MemoryKeyspace } from './engine/memory-keyspace.ts';
import type { Engine } from './engine/port.ts';
import { redisEngine } from './engine/redis-engine.ts';
import { Turns } from './engine/turns.ts';
import type { Middleware, Req, Res } from './http/middleware.ts';
import { type IdempotencyOptions, idempotencyMiddleware } from './idempotency/index.ts';
import { type KitOptions, resolveKitOptions } from './kit-options.ts';
import { KitLocks, type LockHandler, type LockOptions, type Locks, lockMiddleware } from './lock/index.ts';
import {
  checkCreation,
  type ExpressRateLimitStore,
  type ExpressRateLimitStoreOptions,
  type Limiter,
  LimiterCore,
  makeExpressRateLimitStore,
  POLICY_OPTION_NAMES,
  type Policy,
  type RateLimitOptions,
  rateLimitMiddleware,
  resolvePolicy,
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
  /** A kit on the same connection whose keys begin `<prefix>:<name>:`. */
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
   * Makes what is cached void, or with `soft` stale, in all processes. Rejects when Redis is away: with a
   * ConnectionError when it was certainly not told, with a StoreError when nobody can tell.
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
interface Shared {
  readonly connection: Connection | undefined;
  ready(): Promise<void>;
  close(timeoutMs: number): Promise<void>;
  readonly engine: Engine;
  readonly standIn: Engine;
  readonly standInTurns: Turns;
  readonly listening: Listening;
  readonly reporter: Reporter;
  readonly budgetOf: BudgetOf;
  readonly policies: CachePolicies;
  /** The clock of what is held in the process. */
  readonly now: () => number;
  readonly closing: AbortSignal;
  /** What closing waits for. */
  readonly work: OpenWork;
  readonly turns: Turns;
}

/**
 * Makes a kit and begins to connect. A Redis that is down does not stop it: each feature follows its failure policy
 * until Redis comes. Throws a ConfigError when the options are wrong.
 */
export function createRedisKit<Client = DefaultClient>(options: KitOptions<Client> = {}): RedisKit<Client> {
  const settings = resolveKitOptions(options, process.env);
  const { clock, commandTimeoutMs, logger } = settings;
  const events = new Events<KitEvents>(logger);
  const closing = new AbortController();
  // Each middleware that lets requests wait listens; that is no leak.
  setMaxListeners(0, closing.signal);
  const work = new OpenWork();
  const channels = settings.keys.callChannels();
  const standInMemory = new MemoryKeyspace(systemClock);
  const common = {
    reporter: new Reporter(events, logger),
    standIn: memoryEngine(standInMemory, systemClock),
    standInTurns: new Turns(standInMemory, channels, closing.signal),
    budgetOf: requestBudgets(commandTimeoutMs),
    policies: settings.cachePolicies,
    closing: closing.signal,
    work,
  };
  const store = settings.connection.kind === 'memory' ? memoryStore() : redisStore(settings.connection);
  const turns = new Turns(store.listening, channels, closing.signal);

  function memoryStore() {
    let isClosed = false;
    const checkOpen = () => {
      if (isClosed) throw closedError();
    };
    const memory = new MemoryKeyspace(clock);
    return {
      connection: undefined,
      engine: memoryEngine(memory, clock, checkOpen),
      listening: memory,
      now: () => clock.now(),
      ready: async () => checkOpen(),
      close: async () => {
        isClosed = true;
      },
    };
  }

  function redisStore(where: Exclude<typeof settings.connection, { readonly kind: 'memory' }>) {
    const connection = connect(where, events, commandTimeoutMs);
    return {
      connection,
      engine: redisEngine(connection, { commandTimeoutMs }),
      listening: connection.listening,
      now: () => performance.now(),
      ready: () => connection.ready(),
      close: (timeoutMs: number) => connection.close(timeoutMs),
    };
  }

  async function close(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    closing.abort();
    await work.ended(timeoutMs);
    await store.close(Math.max(0, until - performance.now()));
  }

  return kitOf<Client>(settings.keys, { ...common, ...store, turns, close }, true);
}

function kitOf<Client>(keys: Keys, shared: Shared, isRoot: boolean): RedisKit<Client> {
  const { connection, reporter } = shared;
  const deps = {
    ...shared,
    keys,
    isMemory: connection === undefined,
    seals: new Set<Seal>([noSeal]),
  };
  const limiterNames = new Set<string>();
  let madeCaches: Caches | undefined;

  /** Made for the first who caches something, since they listen. */
  function caches(): Caches {
    madeCaches ??= new Caches(deps);
    return madeCaches;
  }

  function valuesDeps() {
    return { ...deps, values: caches().values };
  }

  function claimLimiterNames(names: readonly string[]): void {
    checkCreation(reporter, names.join());
    const taken = names.find((name, index) => limiterNames.has(name) || names.indexOf(name) < index);
    if (taken !== undefined) {
      throw new ConfigError(
        `a limiter named '${taken}' exists already in this kit, and both would count into the same keys; give one of them another \`name\`, and make limiters at start-up and not while a request is handled`,
      );
    }
    for (const name of names) limiterNames.add(name);
  }

  return Object.freeze({
    prefix: keys.prefix,
    client: (connection?.client ?? null) as Client,
    locks: new KitLocks(deps),
    ready: () => shared.ready(),
    close: async (options: { readonly timeout?: Duration | undefined } = {}) => {
      const timeoutMs = new OptionReader('kit.close', options, ['timeout']).duration('timeout', '5s');
      if (isRoot) await shared.close(timeoutMs);
    },
    namespace: (name: string) => kitOf<Client>(keys.namespace(name), shared, false),
    on<Name extends keyof KitEvents>(event: Name, listener: (event: KitEvents[Name]) => void) {
      checkListener(event, listener);
      return reporter.events.on(event, listener);
    },
    session: (options: SessionOptions<never> = {}) => sessionMiddleware(options, deps),
    sessionStore: (options: StoreOptions = {}) => makeSessionStore(options, deps),
    sessions: new SessionAdministration(deps, deps.seals),
    rateLimit: (options: RateLimitOptions<never>) => rateLimitMiddleware(options, deps, claimLimiterNames),
    limiter(policy: Policy) {
      const settings = resolvePolicy(new OptionReader('kit.limiter', policy, POLICY_OPTION_NAMES), false);
      claimLimiterNames([settings.name]);
      const rest = { onError: 'memory', onDenied: 'ignore', denyCache: undefined } as const;
      return new LimiterCore({ policies: [settings], ...rest }, deps);
    },
    expressRateLimitStore: (options: ExpressRateLimitStoreOptions = {}) =>
      makeExpressRateLimitStore(options, deps, claimLimiterNames),
    cache: (options: CacheOptions<never> = {}, handler?: Handler<never, never>) =>
      cacheMiddleware(options, { ...deps, caches: caches() }, handler),
    remember: <Value>(key: string, options: Duration | RememberOptions, load: Load<Value>) =>
      new RememberedValues(valuesDeps()).remember(key, options, load),
    invalidate: (target: InvalidationTarget) => invalidate(target, { ...deps, versions: caches().versions }),
    warm: (entries: Iterable<WarmEntry> | AsyncIterable<WarmEntry>, options: WarmOptions = {}) =>
      warmUp(entries, options, new RememberedValues(valuesDeps()), valuesDeps()),
    lock: (options: LockOptions<never>, handler?: LockHandler<never, never>) =>
      lockMiddleware(options, deps, handler),
    concurrency: (options: ConcurrencyOptions<never>) => concurrencyMiddleware(options, deps),
    idempotency: (options: IdempotencyOptions<never> = {}) => idempotencyMiddleware(options, deps),
  });
}
