import type { Events, KitEvents } from './events.ts';
import type { Logger } from './logger.ts';

/** An outage is one fact, however many requests meet it; it is told again after this long. */
const REPEAT_AFTER_MS = 30_000;

/**
 * Tells people what went wrong: as an event and in the log, each kind of trouble of each room once and not once a
 * request. After a recovery the next trouble is news again.
 */
export class Reporter {
  readonly events: Events<KitEvents>;
  readonly #logger: Logger;
  readonly #toldAt = new Map<string, number>();
  readonly #warned = new Set<string>();

  constructor(events: Events<KitEvents>, logger: Logger) {
    this.events = events;
    this.#logger = logger;
    events.on('connection:down', ({ error }) => logger.error(error.message));
    events.on('connection:up', ({ mode }) => {
      logger.info(`connected to Redis (${mode})`);
      this.#toldAt.clear();
    });
    events.on('connection:breaker', ({ state }) => {
      if (state === 'closed') this.#toldAt.clear();
    });
  }

  /**
   * A failure that a policy covered: the request went on, or was refused in an orderly way. Answers whether it was
   * news.
   */
  failure(room: string, error: Error): boolean {
    const code = 'code' in error ? String(error.code) : error.name;
    if (!this.#isNews(`${room} ${code}`)) return false;
    this.events.emit('error', { room, error });
    this.#logger.error(`${room}: ${error.message}`);
    return true;
  }

  /** Something that works and should still be changed by its operator; each text is told once. */
  warning(message: string): boolean {
    if (this.#warned.has(message)) return false;
    this.#warned.add(message);
    this.#logger.warn(message);
    return true;
  }

  /** Whether this trouble was not told lately; remembers that it is told now. */
  #isNews(what: string): boolean {
    const now = Date.now();
    if (now - (this.#toldAt.get(what) ?? 0) < REPEAT_AFTER_MS) return false;
    this.#toldAt.set(what, now);
    return true;
  }
}
