import { asError, RedisKitError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { insist } from '../waiting/insist.ts';
import { idempotencyComplete } from './operations/complete.ts';
import { idempotencyDiscard } from './operations/discard.ts';
import type { IdempotencyClaim } from './operations/record.ts';
import { idempotencyRenew } from './operations/renew.ts';

export interface RunDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly work: OpenWork;
}

/** A run that was granted: under which claim, where it is recorded, and how its client calls it. */
export interface Granted extends IdempotencyClaim {
  readonly recordKey: string;
  readonly key: string;
}

export interface RunSettings {
  readonly lease: number;
  readonly maxRun: number;
  readonly retention: number;
}

/** A request that runs for its key, from its grant to its end. Nothing of it rejects: trouble is told. */
export class Run {
  readonly #granted: Granted;
  readonly #settings: RunSettings;
  readonly #deps: RunDeps;
  #renewal: NodeJS.Timeout | undefined;
  #tooLong: NodeJS.Timeout | undefined;
  #isLost = false;
  readonly #workIsDone: () => void;

  constructor(granted: Granted, settings: RunSettings, deps: RunDeps) {
    this.#granted = granted;
    this.#settings = settings;
    this.#deps = deps;
    this.#workIsDone = deps.work.begin();
    this.#renewIn(settings.lease / 3);
    this.#tooLong = setTimeout(() => this.leave(), settings.maxRun).unref();
  }

  get attempt(): number {
    return this.#granted.attempt;
  }

  /** Renews the lease no more: when it has ended, a retry runs. What ends later still counts, if none has come. */
  leave(): void {
    this.#stopTimers();
    this.#workIsDone();
  }

  /**
   * Records the answer, or, without one, that the request was done. Where that fails it is tried again in the background
   * for as long as the lease: what has run must not run again for want of a note.
   */
  async complete(answer: Buffer | undefined, deadline: Deadline): Promise<void> {
    this.#stopTimers();
    if (this.#isLost) return;
    const record = async (within?: Deadline) => {
      if (!(await this.#record(answer, within))) this.#lost();
    };
    try {
      await record(deadline);
    } catch (error) {
      this.#failed(error);
      const isFull = error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_FULL';
      // Of memory: only. There is room to say that it was done.
      if (isFull && answer !== undefined) await this.complete(undefined, deadline);
      else void insist(record, this.#settings.lease);
    } finally {
      this.#workIsDone();
    }
  }

  /** Its answer is not final: the next request with the key runs at once. */
  async discard(deadline: Deadline): Promise<void> {
    this.#stopTimers();
    if (this.#isLost) return;
    const discard = async (within?: Deadline) => {
      if (!(await discardRun(this.#granted, true, this.#settings, this.#deps, within))) this.#lost();
    };
    try {
      await discard(deadline);
    } catch (error) {
      this.#failed(error);
      void insist(discard, this.#settings.lease);
    } finally {
      this.#workIsDone();
    }
  }

  #record(answer: Buffer | undefined, deadline: Deadline | undefined): Promise<boolean> {
    const { token, fingerprint, attempt, recordKey } = this.#granted;
    const { engine, keys } = this.#deps;
    const { retention } = this.#settings;
    const told = { channel: keys.idempotencyChannel(), message: recordKey };
    const args = { token, fingerprint, attempt, retention, answer, ...told };
    return engine.run(idempotencyComplete, [recordKey], args, deadline);
  }

  #renewIn(ms: number): void {
    this.#renewal = setTimeout(() => void this.#renew(), ms).unref();
  }

  async #renew(): Promise<void> {
    const { token, fingerprint, attempt, recordKey } = this.#granted;
    const { lease, retention } = this.#settings;
    const args = { token, fingerprint, attempt, lease, retention };
    try {
      const isOurs = await this.#deps.engine.run(idempotencyRenew, [recordKey], args);
      if (this.#renewal === undefined) return;
      if (isOurs) this.#renewIn(lease / 3);
      else this.#lost();
    } catch (error) {
      if (this.#renewal === undefined) return;
      this.#failed(error);
      this.#renewIn(Math.max(10, lease / 10));
    }
  }

  #lost(): void {
    this.leave();
    if (this.#isLost) return;
    this.#isLost = true;
    const { key, attempt } = this.#granted;
    this.#deps.reporter.events.emit('idempotency:lost', { key, attempt });
  }

  #stopTimers(): void {
    clearTimeout(this.#renewal);
    clearTimeout(this.#tooLong);
    this.#renewal = undefined;
    this.#tooLong = undefined;
  }

  #failed(error: unknown): void {
    this.#deps.reporter.failure('idempotency', asError(error));
  }
}

/** Gives a run up that is or may be granted; `hasRun` is false for one whose grant was not heard. */
export function discardRun(
  { recordKey, token }: Pick<Granted, 'recordKey' | 'token'>,
  hasRun: boolean,
  { retention }: Pick<RunSettings, 'retention'>,
  { engine, keys }: RunDeps,
  deadline?: Deadline,
): Promise<boolean> {
  const told = { channel: keys.idempotencyChannel(), message: recordKey };
  return engine.run(idempotencyDiscard, [recordKey], { token, retention, hasRun, ...told }, deadline);
}
