import { performance } from 'node:perf_hooks';
import { BoundedMap } from './bounded-map.ts';
import { RedisKitError } from './errors.ts';
import type { Events, KitEvents } from './events.ts';
import type { Logger } from './logger.ts';

/** An outage is one fact, however many requests meet it; it is told again after this long. */
const REPEAT_AFTER_MS = 30_000;

/** No node is named so. */
const CONNECTION = '';

/** Texts that differ each time are not remembered for ever; they may hold what a client sent. */
const REMEMBERED_BYTES = 2 ** 20;

/**
 * Tells people what went wrong: as an event and in the log, each kind of trouble of each feature once and not once a
 * request. After a recovery the next trouble is news again.
 */
export class Reporter {
  readonly events: Events<KitEvents>;
  readonly #logger: Logger;
  readonly #toldAt = new BoundedMap<number>(REMEMBERED_BYTES);
  readonly #warned = new BoundedMap<true>(REMEMBERED_BYTES);
  /** When each feature last went on without Redis. */
  readonly #degradedAt = new Map<string, number>();
  /** What is known to be away: the connection, or nodes by name. */
  readonly #away = new Set<string>();

  constructor(events: Events<KitEvents>, logger: Logger) {
    this.events = events;
    this.#logger = logger;
    events.on('connection:down', ({ error }) => {
      this.#away.add(CONNECTION);
      logger.error(error.message);
    });
    events.on('connection:up', ({ mode }) => {
      // Who was woken by the outage is to hear of its end.
      if (this.#away.has(CONNECTION)) logger.warn(`connected to Redis again (${mode})`);
      else logger.info(`connected to Redis (${mode})`);
      this.#returned(CONNECTION);
    });
    events.on('connection:breaker', ({ node, state }) => {
      if (state === 'open') {
        this.#away.add(node);
        logger.error(`${node} does not answer`);
      } else {
        logger.warn(`${node} answers again`);
        this.#returned(node);
      }
    });
  }

  /** A failure that a policy covered: the request went on, or was refused in an orderly way. */
  failure(feature: string, error: Error): void {
    // An error of the app's own has no code, and is told by what it says.
    const kind = error instanceof RedisKitError ? error.code : `${error.name}: ${error.message}`;
    const now = performance.now();
    const toldAt = this.#toldAt.get(`${feature} ${kind}`) ?? Number.NEGATIVE_INFINITY;
    if (now - toldAt < REPEAT_AFTER_MS) return;
    this.#toldAt.set(`${feature} ${kind}`, now);
    this.events.emit('error', { feature, error });
    this.#logger.error(`${feature}: ${error.message}`);
  }

  /** To be asked each time that a feature goes on without Redis: whether it is the first time of this outage. */
  isNewlyDegraded(feature: string): boolean {
    const now = performance.now();
    const degradedAt = this.#degradedAt.get(feature);
    this.#degradedAt.set(feature, now);
    if (degradedAt === undefined) return true;
    // A single late answer opens no breaker, and nobody tells of its end: after a while without another it is over.
    return this.#away.size === 0 && now - degradedAt >= REPEAT_AFTER_MS;
  }

  /** Something that works and should still be changed by its operator; each text is told once. */
  warning(message: string): boolean {
    if (this.#warned.get(message) === true) return false;
    this.#warned.set(message, true);
    this.#logger.warn(message);
    return true;
  }

  /** The outage lasts as long as anything is away: a connection may be back before its server answers. */
  #returned(what: string): void {
    this.#away.delete(what);
    if (this.#away.size > 0) return;
    this.#toldAt.clear();
    this.#degradedAt.clear();
  }
}
