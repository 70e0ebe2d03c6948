import { performance } from 'node:perf_hooks';
import { BoundedMap } from './bounded-map.ts';
import type { Emitter } from './emitter.ts';
import { RedisKitError } from './errors.ts';
import type { KitEvents } from './events.ts';
import type { Logger } from './logger.ts';

/** How long the same kind of failure of a feature is not reported again. */
const REPEAT_AFTER_MS = 30_000;

/** The name of the connection itself in `#unavailable`, beside the names of nodes. */
const CONNECTION = '';

/** Bounds the memory of earlier reports and warnings, whose messages may contain text that clients sent. */
const MAX_REMEMBERED_BYTES = 2 ** 20;

/**
 * Reports failures as `error` events and in the log: the same kind of failure of a feature at most once in 30 seconds,
 * and not once per request. After Redis has recovered, the next failure is reported at once.
 */
export class Reporter {
  readonly events: Emitter<KitEvents>;
  readonly #logger: Logger;
  readonly #reportedAt = new BoundedMap<number>(MAX_REMEMBERED_BYTES);
  readonly #warnings = new BoundedMap<true>(MAX_REMEMBERED_BYTES);
  /** When each feature last worked without Redis. */
  readonly #degradedAt = new Map<string, number>();
  /** The connection, if it is down, and the nodes whose circuit breaker is open. */
  readonly #unavailable = new Set<string>();

  constructor(events: Emitter<KitEvents>, logger: Logger) {
    this.events = events;
    this.#logger = logger;
    events.on('connection:down', ({ error }) => {
      this.#unavailable.add(CONNECTION);
      logger.error(error.message);
    });
    events.on('connection:up', ({ mode }) => {
      // The default logger shows the error that began the outage, so the recovery is logged at a level that it shows,
      // too.
      if (this.#unavailable.has(CONNECTION)) logger.warn(`connected to Redis again (${mode})`);
      else logger.info(`connected to Redis (${mode})`);
      this.#recovered(CONNECTION);
    });
    // The connection emits its errors itself, once each. `failure()` logs those of features.
    events.on('error', ({ feature, error }) => {
      if (feature === 'connection') logger.error(error.message);
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

  /** Reports a failure that no caller receives, since a failure policy handled it. */
  failure(feature: string, error: Error): void {
    // An error of the app has no code, so its name and message identify its kind.
    const kind = error instanceof RedisKitError ? error.code : `${error.name}: ${error.message}`;
    const now = performance.now();
    const reportedAt = this.#reportedAt.get(`${feature} ${kind}`) ?? Number.NEGATIVE_INFINITY;
    if (now - reportedAt < REPEAT_AFTER_MS) return;
    this.#reportedAt.set(`${feature} ${kind}`, now);
    this.events.emit('error', { feature, error });
    this.#logger.error(`${feature}: ${error.message}`);
  }

  /** Must be called each time a feature works without Redis. Returns whether the call is the first in the outage. */
  isNewlyDegraded(feature: string): boolean {
    const now = performance.now();
    const degradedAt = this.#degradedAt.get(feature);
    this.#degradedAt.set(feature, now);
    if (degradedAt === undefined) return true;
    // While the connection is up and no breaker is open, no event ends the outage. The outage then ends after 30
    // seconds without a call of this method.
    return this.#unavailable.size === 0 && now - degradedAt >= REPEAT_AFTER_MS;
  }

  /** Logs a warning once per message, for something that works but should be changed. Returns whether it was logged. */
  warning(message: string): boolean {
    if (this.#warnings.get(message) === true) return false;
    this.#warnings.set(message, true);
    this.#logger.warn(message);
    return true;
  }

  /** Ends the outage once everything is available: a connection may be up again before its server answers. */
  #recovered(what: string): void {
    this.#unavailable.delete(what);
    if (this.#unavailable.size > 0) return;
    this.#reportedAt.clear();
    this.#degradedAt.clear();
  }
}
