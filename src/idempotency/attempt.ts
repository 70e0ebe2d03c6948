import { performance } from 'node:perf_hooks';
import { asError, RedisKitError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Keys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline, RequestDeadlines } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import { Alarm, type AlarmTask } from '../waiting/alarm.ts';
import { type RenewableLease, Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import { idempotencyComplete } from './operations/complete.ts';
import { type IdempotencyDiscardArgs, idempotencyDiscard } from './operations/discard.ts';
import type { AttemptRecord } from './operations/record.ts';
import { idempotencyRenew } from './operations/renew.ts';
import type { IdempotencySettings } from './options.ts';

/** The parts of the kit that `kit.idempotency` uses. */
export interface IdempotencyDeps {
  readonly engine: Engine;
  readonly pubSub: PubSub;
  readonly keys: Keys;
  /** The channel that announces the ends of attempts. */
  readonly channel: string;
  readonly reporter: Reporter;
  readonly work: OpenWork;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
  readonly deadlines: RequestDeadlines;
  readonly failurePolicies: FailurePolicies;
}

export interface GrantedAttempt extends AttemptRecord {
  /** The Redis key of the record. */
  readonly recordKey: string;
  /** The key that the client sent. */
  readonly key: string;
}

/** An attempt to run the request of a key, from grant to end. Its methods never reject: failures are reported. */
export class Attempt implements RenewableLease, AlarmTask {
  readonly #grant: GrantedAttempt;
  readonly #settings: IdempotencySettings;
  readonly #deps: IdempotencyDeps;
  readonly #renewal: Renewal = new Renewal(this);
  readonly #maxRun: Alarm = new Alarm(this);
  #isLost = false;
  #isOver = false;

  constructor(grant: GrantedAttempt, settings: IdempotencySettings, deps: IdempotencyDeps) {
    this.#grant = grant;
    this.#settings = settings;
    this.#deps = deps;
    deps.work.begin();
    const now = performance.now();
    this.#renewal.start(settings.lease, now);
    this.#maxRun.set(now + settings.maxRun);
  }

  get key(): string {
    return this.#grant.key;
  }

  /** The number of this attempt among those for the key, from 1. */
  get number(): number {
    return this.#grant.attempt;
  }

  /** Stops the renewal: a retry runs once the lease ends. A later response is still recorded if no retry has run. */
  leave(): void {
    this.#stopTimers();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#deps.work.end();
  }

  /** Called when the attempt has run for `maxRun`. */
  due(): void {
    this.leave();
  }

  /** Records the response. If the response is undefined, records only that the request has run. */
  complete(response: Buffer | undefined, deadline: Deadline): Promise<void> {
    return this.#end((within) => this.#record(response, within), deadline);
  }

  /** Ends an attempt whose response is not final: the next request with the key runs at once. */
  discard(deadline: Deadline): Promise<void> {
    const args = { retention: this.#settings.retention, hasRun: true };
    const send = async (within?: Deadline) => {
      const isOwn = await discardAttempt(this.#grant, args, this.#deps, within);
      // The first command may have run although its reply was lost. A retry that replaced the attempt after it is no loss.
      return isOwn || within === undefined;
    };
    return this.#end(send, deadline);
  }

  /** Ends an attempt of a request that does not run. The attempt is not counted. */
  withdraw(): void {
    this.leave();
    const { lease, retention } = this.#settings;
    const args = { retention, hasRun: false };
    void sendUntilAnswered(() => discardAttempt(this.#grant, args, this.#deps), lease, this.#deps.work);
  }

  /**
   * Sends the command that ends the attempt. A failed command is repeated in the background, without a deadline, until
   * the lease ends.
   */
  #end(send: (within?: Deadline) => Promise<boolean>, deadline: Deadline): Promise<void> {
    this.#stopTimers();
    if (this.#isLost) return Promise.resolve();
    const ended = (isOwn: boolean) => {
      if (!isOwn) this.lost();
      this.leave();
    };
    return send(deadline).then(ended, (error: unknown) => {
      this.failed(error);
      const { lease } = this.#settings;
      void sendUntilAnswered(() => send().then(ended), lease, this.#deps.work);
      this.leave();
    });
  }

  #record(response: Buffer | undefined, deadline: Deadline | undefined): Promise<boolean> {
    const { engine, channel } = this.#deps;
    const { recordKey, token, fingerprint, attempt } = this.#grant;
    const { retention } = this.#settings;
    const args = { token, fingerprint, attempt, retention, channel, response };
    const recorded = engine.run(idempotencyComplete, [recordKey], args, deadline);
    if (response === undefined) return recorded;
    return recorded.catch((error: unknown) => {
      if (!(error instanceof RedisKitError) || error.code !== 'ERR_REDIS_KIT_FULL') throw error;
      this.failed(error);
      // The memory engine is full, but a record without a response still fits.
      return this.#record(undefined, deadline);
    });
  }

  renew(): Promise<boolean> {
    const { lease, retention } = this.#settings;
    const args = { ...this.#grant, lease, retention };
    return this.#deps.engine.run(idempotencyRenew, [this.#grant.recordKey], args);
  }

  lost(): void {
    this.leave();
    if (this.#isLost) return;
    this.#isLost = true;
    const { key, attempt } = this.#grant;
    this.#deps.reporter.events.emit('idempotency:lost', { key, attempt });
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('idempotency', asError(error));
  }

  #stopTimers(): void {
    this.#renewal.stop();
    this.#maxRun.clear();
  }
}

/** Ends an attempt without a recorded response. */
export function discardAttempt(
  { recordKey, token }: Pick<GrantedAttempt, 'recordKey' | 'token'>,
  args: Pick<IdempotencyDiscardArgs, 'retention' | 'hasRun'>,
  { engine, channel }: IdempotencyDeps,
  deadline?: Deadline,
): Promise<boolean> {
  return engine.run(idempotencyDiscard, [recordKey], { ...args, token, channel }, deadline);
}
