import { closedError, StoreError } from '../base/errors.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type Claim, type ClaimReply, makeClaim } from '../waiting/claim.ts';
import { type WakeUp, WakeUps } from '../waiting/wake-ups.ts';
import { Attempt, discardAttempt, type IdempotencyDeps } from './attempt.ts';
import { type IdempotencyBeginReply, idempotencyBegin } from './operations/begin.ts';
import type { IdempotencySettings } from './options.ts';
import { type RecordedResponse, unpackResponse } from './recorded-response.ts';

export interface KeyedRequest {
  readonly scope: string;
  readonly key: string;
  readonly fingerprint: Buffer;
  readonly deadline: Deadline;
  /** Ends the wait. */
  readonly signal: AbortSignal | undefined;
}

/**
 * The state of a key when a request arrives with it. `attempt`: the request runs. `in-flight`, `mismatch`
 * and `unkept`: the request is refused. `unknown`: the request has waited for another one with the key, whose outcome
 * cannot be read from Redis.
 */
export type KeyState =
  | { readonly kind: 'attempt'; readonly attempt: Attempt }
  | { readonly kind: 'replay'; readonly response: RecordedResponse }
  | { readonly kind: 'in-flight' | 'mismatch' | 'unkept' }
  | { readonly kind: 'unknown'; readonly error: unknown };

/** The records of one `kit.idempotency` middleware. */
export class IdempotencyRecords {
  readonly #settings: IdempotencySettings;
  readonly #deps: IdempotencyDeps;
  readonly #wakeUps: WakeUps | undefined;

  constructor(settings: IdempotencySettings, deps: IdempotencyDeps) {
    this.#settings = settings;
    this.#deps = deps;
    if (settings.waits) this.#wakeUps = subscribe(deps);
  }

  /**
   * Claims the key for a request. Rejects when Redis fails, when the record is corrupt, when the kit is closed, and,
   * if the signal aborts during a wait, with the reason of the signal.
   */
  claim(request: KeyedRequest): Promise<KeyState> {
    const { keys, closing } = this.#deps;
    if (closing.aborted) return Promise.reject(closedError());
    const recordKey = keys.idempotency(request.scope, request.key);
    const wakeUp = this.#wakeUps?.expect(recordKey);
    const claim = new KeyClaim(request, { recordKey, wakeUp }, this.#settings, this.#deps);
    return makeClaim(claim, this.#deps).then(
      ({ granted }) => granted ?? { kind: 'in-flight' },
      (error: unknown) => {
        if (claim.isWaiter && request.signal?.aborted !== true) return { kind: 'unknown', error };
        throw error;
      },
    );
  }
}

class KeyClaim implements Claim<KeyState> {
  readonly waitMs: number;
  readonly wakeUp: WakeUp | undefined;
  isWaiter = false;
  readonly #request: KeyedRequest;
  readonly #recordKey: string;
  readonly #token: string = freshToken();
  readonly #settings: IdempotencySettings;
  readonly #deps: IdempotencyDeps;

  constructor(
    request: KeyedRequest,
    { recordKey, wakeUp }: { readonly recordKey: string; readonly wakeUp: WakeUp | undefined },
    settings: IdempotencySettings,
    deps: IdempotencyDeps,
  ) {
    this.waitMs = wakeUp === undefined ? 0 : Number.POSITIVE_INFINITY;
    this.wakeUp = wakeUp;
    this.#request = request;
    this.#recordKey = recordKey;
    this.#settings = settings;
    this.#deps = deps;
  }

  get undoForMs(): number {
    return this.#settings.lease;
  }

  get signal(): AbortSignal | undefined {
    return this.#request.signal;
  }

  ask(hasWaited: boolean): Promise<ClaimReply<KeyState>> {
    this.isWaiter = hasWaited;
    const { lease, retention, waits } = this.#settings;
    const args = { token: this.#token, fingerprint: this.#request.fingerprint, lease, retention, waits };
    // The deadline limits the time that a request spends on Redis, not its wait for another request.
    const deadline = hasWaited ? undefined : this.#request.deadline;
    return this.#deps.engine
      .run(idempotencyBegin, [this.#recordKey], args, deadline)
      .then((reply) => this.#replyOf(reply));
  }

  undo(): Promise<boolean> {
    const attempt = { recordKey: this.#recordKey, token: this.#token };
    return discardAttempt(attempt, { retention: this.#settings.retention, hasRun: false }, this.#deps);
  }

  #replyOf(reply: IdempotencyBeginReply): ClaimReply<KeyState> {
    if (reply.found === 'corrupt') throw corrupt(this.#recordKey);
    const { outcome, attempt, leftMs } = reply;
    if (outcome === 'running') return { leftMs, needsUndo: false };
    if (outcome === 'recovered') {
      this.#deps.reporter.events.emit('idempotency:recovered', { key: this.#request.key, attempt });
    }
    return { granted: this.#stateOf(reply), leftMs, needsUndo: false };
  }

  #stateOf({ outcome, attempt, response }: IdempotencyBeginReply): KeyState {
    if (outcome === 'mismatch' || outcome === 'unkept') return { kind: outcome };
    const { key, fingerprint } = this.#request;
    if (outcome !== 'done') {
      const grant = { recordKey: this.#recordKey, key, token: this.#token, fingerprint, attempt };
      return { kind: 'attempt', attempt: new Attempt(grant, this.#settings, this.#deps) };
    }
    const recorded = response === null ? undefined : unpackResponse(response);
    if (recorded === undefined) throw corrupt(this.#recordKey);
    this.#deps.reporter.events.emit('idempotency:replayed', { key });
    return { kind: 'replay', response: recorded };
  }
}

/** Subscribes to the ends of attempts in all processes, which wake the waiters of this process. */
function subscribe({ pubSub, channel, closing }: IdempotencyDeps): WakeUps {
  const wakeUps = new WakeUps();
  pubSub.subscribe(channel, {
    onMessage: (message) => wakeUps.wake(message),
    onStatus: (isUp) => wakeUps.listenerChanged(isUp),
  });
  closing.addEventListener('abort', () => wakeUps.wakeAll(), { once: true });
  return wakeUps;
}

/** The error for a corrupt record. Its request may have run, so no retry runs. */
function corrupt(recordKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${recordKey} is not a redis-kit record; requests with its idempotency key are refused until it is deleted`,
  );
}
