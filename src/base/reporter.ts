import { performance } from 'node:perf_hooks';
import { LRUCache } from 'lru-cache';
import { RedisKitError } from './errors.ts';
import type { Events, KitEvents } from './events.ts';
import type { Logger } from './logger.ts';

/** An outage is one fact, however many requests meet it; it is told again after this long. */
const REPEAT_AFTER_MS = 30_000;

/** Texts that differ each time are not remembered for ever. */
const MAX_REMEMBERED = 1_000;

/**
 * Tells people what went wrong: as an event and in the log, each kind of trouble of each room once and not once a
 * request. After a recovery the next trouble is news again.
 */
export class Reporter {
  readonly events: Events<KitEvents>;
  readonly #logger: Logger;
  readonly #toldAt = new LRUCache<string, number>({ max: MAX_REMEMBERED });
  readonly #warned = new LRUCache<string, true>({ max: MAX_REMEMBERED });
  readonly #degraded = new Set<string>();
  #wasDown = false;

  constructor(events: Events<KitEvents>, logger: Logger) {
    this.events = events;
    this.#logger = logger;
    events.on('connection:down', ({ error }) => {
      this.#wasDown = true;
      logger.error(error.message);
    });
    events.on('connection:up', ({ mode }) => {
      // Who was woken by the outage is to hear of its end.
      if (this.#wasDown) logger.warn(`connected to Redis again (${mode})`);
      else logger.info(`connected to Redis (${mode})`);
      this.#recovered();
    });
    events.on('connection:breaker', ({ node, state }) => {
      if (state === 'open') logger.error(`${node} does not answer`);
      else {
        logger.warn(`${node} answers again`);
        this.#recovered();
      }
    });
  }

  /** A failure that a policy covered: the request went on, or was refused in an orderly way. */
  failure(room: string, error: Error): void {
    // An error of the app's own has no code, and is told by what it says.
    const kind = error instanceof RedisKitError ? error.code : `${error.name}: ${error.message}`;
    const now = performance.now();
    const toldAt = this.#toldAt.get(`${room} ${kind}`) ?? Number.NEGATIVE_INFINITY;
    if (now - toldAt < REPEAT_AFTER_MS) return;
    this.#toldAt.set(`${room} ${kind}`, now);
    this.events.emit('error', { room, error });
    this.#logger.error(`${room}: ${error.message}`);
  }

  /** Whether a room begins to go on without Redis, and has not told so since Redis was last there. */
  isNewlyDegraded(room: string): boolean {
    if (this.#degraded.has(room)) return false;
    this.#degraded.add(room);
    return true;
  }

  /** Something that works and should still be changed by its operator; each text is told once. */
  warning(message: string): boolean {
    if (this.#warned.has(message)) return false;
    this.#warned.set(message, true);
    this.#logger.warn(message);
    return true;
  }

  #recovered(): void {
    this.#wasDown = false;
    this.#toldAt.clear();
    this.#degraded.clear();
  }
}
