import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { RedisClientType, RedisClusterType } from 'redis';
import type { BackgroundMethods } from './background/index.ts';
import type { Duration } from './base/duration.ts';
import type { KitEvents } from './base/events.ts';
import type { CacheMethods } from './cache/index.ts';
import type { ChannelMethods } from './channels/index.ts';
import type { ConcurrencyMethods } from './concurrency/index.ts';
import type { DocumentsMethods } from './documents/index.ts';
import type { HealthMethods } from './health/index.ts';
import type { Middleware, Req, Res } from './http/middleware.ts';
import type { PipelineStep } from './http/pipeline.ts';
import type { IdempotencyMethods } from './idempotency/index.ts';
import type { LockMethods } from './lock/index.ts';
import type { LogMethods } from './log/index.ts';
import type { MembersMethods } from './members/index.ts';
import type { RateLimitMethods } from './rate-limit/index.ts';
import type { SessionMethods } from './session/index.ts';
import type { SseMethods } from './sse/index.ts';
import type { StateMethods } from './state/index.ts';

/** The type of `kit.client` when the kit opened the connection itself; the client is null on `memory:`. */
export type DefaultClient = RedisClientType | RedisClusterType | null;

/** Everything that a server keeps in Redis for its requests, on one connection and under one prefix. */
export interface RedisKit<Client = DefaultClient>
  extends SessionMethods,
    RateLimitMethods,
    CacheMethods,
    LockMethods,
    ConcurrencyMethods,
    IdempotencyMethods,
    ChannelMethods,
    LogMethods,
    BackgroundMethods,
    StateMethods,
    DocumentsMethods,
    MembersMethods,
    SseMethods,
    HealthMethods {
  /**
   * Returns a middleware that runs the given ones in their order, as separate `app.use` calls would, with fewer round
   * trips: what `kit.session` and `kit.cache` read first is sent together with the first command of the middleware above
   * them. A request that one of the middleware refuses changes nothing in the later ones. Throws a ConfigError for an
   * argument that is no middleware.
   */
  pipeline<Request extends IncomingMessage = Req, Response extends ServerResponse = Res>(
    ...middleware: readonly PipelineStep<Request, Response>[]
  ): Middleware;
  /**
   * Returns a listener for `http.createServer` that answers before the app runs what this process knows: the local
   * copies of caches and the refusals of limiters that have the option `front`. All other requests go to the app. Throws
   * a ConfigError for an argument that is no app.
   */
  front(app: (req: never, res: never) => unknown): RequestListener;
  /** The first part of every Redis key of this kit. */
  readonly prefix: string;
  /**
   * The underlying client, for your own commands; the kit's deadlines and failure policies do not apply to it. With
   * `sentinel`, each connection to a master has a client of its own: read this property for each use.
   */
  readonly client: Client;
  /**
   * Resolves when Redis has answered, or rejects with a ConnectionError after 5 s. A later connection is still used. On
   * a Cluster, every master must answer.
   */
  ready(): Promise<void>;
  /**
   * Waits up to `timeout` (default `'5s'`) for locks, slots, background jobs, events of `writeBehind` and commands in
   * flight, gives reserved units back, and closes what the kit opened. Jobs and events that are left are reported to their
   * `onError`. Never rejects for an outage. A second call waits for the first and has no timeout of its own.
   * `close()` of a namespace closes nothing.
   */
  close(options?: { readonly timeout?: Duration | undefined }): Promise<void>;
  /**
   * Returns a kit on the same connection whose keys begin with `<prefix>:<name>:`; the same name returns the same kit.
   * `namespace()` is cheap enough to be called for each request: namespaces share the memory of this process within the
   * same bounds, and a namespace that nothing refers to costs nothing. Create the limiters of a namespace at start-up
   * too: a second limiter of the same name throws.
   */
  namespace(name: string): RedisKit<Client>;
  /** Calls the listener with every event of this name; returns an unsubscribe function. */
  on<Name extends keyof KitEvents>(event: Name, listener: (event: KitEvents[Name]) => void): () => void;
}
