import { performance } from 'node:perf_hooks';
import { BoundedMap } from './bounded-map.ts';
import type { Emitter } from './emitter.ts';
import { RedisKitError } from './errors.ts';
import type { KitEvents } from './events.ts';
import { FailurePolicies } from './failure-policies.ts';
import type { Logger } from './logger.ts';

/** How long the same kind of failure of a feature is not reported again. */
const REPEAT_AFTER_MS = 30_000;

/** A timeout and a lost or refused connection are one kind of trouble. */
const OUTAGE_CODES = new Set<string>(['ERR_REDIS_KIT_CONNECTION', 'ERR_REDIS_KIT_TIMEOUT']);

/** The name of the connection itself in `#unavailable`, beside the names of nodes. */
const CONNECTION = '';

/** Bounds the memory of earlier reports and warnings, whose messages may contain text that clients sent. */
const MAX_REMEMBERED_BYTES = 2 ** 20;

/** The time in which Redis was unavailable, and how often each feature worked without it. */
interface Outage {
  readonly beganAt: number;
  readonly failures: Map<string, number>;
}

/**
 * Reports failures as `error` events and in the log: the same kind of failure of a feature at most once in 30 seconds,
 * and not once per request. While Redis is down, a failure for that reason is reported once. After Redis has recovered,
 * the next outage is reported at once.
 */
export class Reporter {
  readonly events: Emitter<KitEvents>;
  readonly #logger: Logger;
  readonly #reportedAt = new BoundedMap<number>(MAX_REMEMBERED_BYTES);
  /** When a failure of each feature by an outage was last reported. */
  readonly #outageReportedAt = new Map<string, number>();
  readonly #warnings = new BoundedMap<true>(MAX_REMEMBERED_BYTES);
  /** When each feature last worked without Redis. */
  readonly #degradedAt = new Map<string, number>();
  /** The connection, if it is down, and the nodes whose circuit breaker is open. */
  readonly #unavailable = new Set<string>();
  /** The nodes that have a log line that they do not answer. */
  readonly #silentNodes = new Set<string>();
  readonly #policies: FailurePolicies;
  #outage: Outage | undefined;
  /** The last reason why the connection is down. */
  #downReason = '';
  #nameOf: (node: string) => string = (node) => node;

  constructor(events: Emitter<KitEvents>, logger: Logger, policies: FailurePolicies = new FailurePolicies()) {
    this.events = events;
    this.#logger = logger;
    this.#policies = policies;
    events.on('connection:down', ({ error }) => {
      this.#downReason = error.message;
      const message = error.message.replace(/^\S+(?= refuses )/, (node) => this.#nameOf(node));
      this.#lost(CONNECTION, error instanceof RedisKitError ? `${message} (${error.code})` : message);
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
      const name = this.#nameOf(node);
      if (state === 'open') {
        // The line about the connection has named the only node, or the reply of a node that refuses commands.
        const isKnown =
          this.#unavailable.has(CONNECTION) && (node === 'redis' || this.#downReason.startsWith(`${node} `));
        if (!isKnown) this.#silentNodes.add(node);
        this.#lost(node, isKnown ? undefined : `${name} does not answer`);
      } else {
        if (this.#silentNodes.delete(node)) logger.warn(`${name} answers again`);
        this.#recovered(node);
      }
    });
  }

  /** Sets how log lines name a node of the event `connection:breaker`. */
  nameNodes(nameOf: (node: string) => string): void {
    this.#nameOf = nameOf;
  }

  /** Reports a failure that no caller receives, since a failure policy handled it. */
  failure(feature: string, error: Error): void {
    const isOutage = error instanceof RedisKitError && OUTAGE_CODES.has(error.code);
    const failures = this.#outage?.failures;
    if (isOutage) failures?.set(feature, (failures.get(feature) ?? 0) + 1);
    // An error of the app has no code, so its name and message identify its kind.
    const code = error instanceof RedisKitError ? error.code : `${error.name}: ${error.message}`;
    const [reports, kind] = isOutage
      ? [this.#outageReportedAt, feature]
      : [this.#reportedAt, `${feature} ${code}`];
    const now = performance.now();
    const reportedAt = reports.get(kind);
    const isKnown = isOutage && this.#outage !== undefined && reportedAt !== undefined;
    if (isKnown || now - (reportedAt ?? Number.NEGATIVE_INFINITY) < REPEAT_AFTER_MS) return;
    reports.set(kind, now);
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

  /** Begins an outage, or adds to it. The first line of an outage says what the features do without Redis. */
  #lost(what: string, line: string | undefined): void {
    const isFirst = this.#outage === undefined;
    this.#unavailable.add(what);
    this.#outage ??= { beganAt: performance.now(), failures: new Map() };
    const behaviour = isFirst ? this.#policies.describe() : '';
    if (line !== undefined)
      this.#logger.error(behaviour === '' ? line : `${line}; until it is back: ${behaviour}`);
  }

  /** Ends the outage once everything is available: a connection may be up again before its server answers. */
  #recovered(what: string): void {
    this.#unavailable.delete(what);
    if (this.#unavailable.size > 0) return;
    const outage = this.#outage;
    this.#outage = undefined;
    this.#outageReportedAt.clear();
    this.#degradedAt.clear();
    if (outage === undefined || outage.failures.size === 0) return;
    const counts = Array.from(outage.failures, ([feature, count]) => `${feature} ${count}`).join(', ');
    const seconds = ((performance.now() - outage.beganAt) / 1_000).toFixed(1);
    this.#logger.warn(`the outage lasted ${seconds} s; operations without Redis: ${counts}`);
  }
}
