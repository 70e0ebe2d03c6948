import { performance } from 'node:perf_hooks';
import { BoundedMap } from './bounded-map.ts';
import type { Emitter } from './emitter.ts';
import { RedisKitError } from './errors.ts';
import type { KitEvents } from './events.ts';
import type { Logger } from './logger.ts';

/** How long the same failure of a feature is not reported again. */
const REPEAT_AFTER_MS = 30_000;

/** The name of the connection in the set of unavailable nodes. */
const CONNECTION = '';

/** Bounds the memory of earlier messages, which may contain text that clients sent. */
const MAX_REMEMBERED_BYTES = 2 ** 20;

/**
 * Reports failures as `error` events and in the log: the same kind of failure of a feature once in a while, and not once per
 * request. After a recovery it is reported again at once.
 */
export class Reporter {
  readonly events: Emitter<KitEvents>;
  readonly #logger: Logger;
  readonly #reportedAt = new BoundedMap<number>(MAX_REMEMBERED_BYTES);
  readonly #warnings = new BoundedMap<true>(MAX_REMEMBERED_BYTES);
  /** When each feature last worked without Redis. */
  readonly #degradedAt = new Map<string, number>();
  /** The connection, if it is down, and the nodes that do not answer. */
  readonly #unavailable = new Set<string>();

  constructor(events: Emitter<KitEvents>, logger: Logger) {
    this.events = events;
    this.#logger = logger;
    events.on('connection:down', ({ error }) => {
      this.#unavailable.add(CONNECTION);
      logger.error(error.message);
    });
    events.on('connection:up', ({ mode }) => {
      // After an error in the log, its end is logged at a visible level as well.
      if (this.#unavailable.has(CONNECTION)) logger.warn(`connected to Redis again (${mode})`);
      else logger.info(`connected to Redis (${mode})`);
      this.#recovered(CONNECTION);
    });
    events.on('connection:breaker', ({ node, state }) => {
      if (state === 'open') {
        this.#unavailable.add(node);
        logger.error(`${node} does not answer`);
      } else {
        logger.warn(`${node} answers again`);
        this.#recovered(node);
      }
    });
  }

  /** Reports a failure that no caller hears of, since a failure policy handled it. */
  failure(feature: string, error: Error): void {
    // An error of the app has no code; its message tells it from others.
    const kind = error instanceof RedisKitError ? error.code : `${error.name}: ${error.message}`;
    const now = performance.now();
    const reportedAt = this.#reportedAt.get(`${feature} ${kind}`) ?? Number.NEGATIVE_INFINITY;
    if (now - reportedAt < REPEAT_AFTER_MS) return;
    this.#reportedAt.set(`${feature} ${kind}`, now);
    this.events.emit('error', { feature, error });
    this.#logger.error(`${feature}: ${error.message}`);
  }

  /** To be called each time that a feature works without Redis. Returns whether this is the first time in this outage. */
  isNewlyDegraded(feature: string): boolean {
    const now = performance.now();
    const degradedAt = this.#degradedAt.get(feature);
    this.#degradedAt.set(feature, now);
    if (degradedAt === undefined) return true;
    // Without an open breaker no event ends the outage, so it ends after a while without a failure.
    return this.#unavailable.size === 0 && now - degradedAt >= REPEAT_AFTER_MS;
  }

  /** Logs something that works but should be changed. Each message is logged once; returns whether this was the first time. */
  warning(message: string): boolean {
    if (this.#warnings.get(message) === true) return false;
    this.#warnings.set(message, true);
    this.#logger.warn(message);
    return true;
  }

  /** An outage lasts until everything is available: a connection may be back before its server answers. */
  #recovered(what: string): void {
    this.#unavailable.delete(what);
    if (this.#unavailable.size > 0) return;
    this.#reportedAt.clear();
    this.#degradedAt.clear();
  }
}
