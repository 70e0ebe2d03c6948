import { closedError, StoreError } from '../base/errors.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import { type ClaimReply, makeClaim } from '../waiting/claim.ts';
import { WakeUps } from '../waiting/wake-ups.ts';
import { Attempt, discardAttempt, type GrantedAttempt, type IdempotencyDeps } from './attempt.ts';
import { type IdempotencyBeginReply, idempotencyBegin } from './operations/begin.ts';
import type { IdempotencySettings } from './options.ts';
import { type RecordedResponse, unpackResponse } from './recorded-response.ts';

export interface KeyedRequest {
  readonly scope: string;
  readonly key: string;
  readonly fingerprint: Buffer;
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
   * if `signal` aborts during a wait, with the reason of the signal.
   */
  async claim(request: KeyedRequest, deadline: Deadline, signal?: AbortSignal): Promise<KeyState> {
    const { keys, closing } = this.#deps;
    if (closing.aborted) throw closedError();
    const { lease, retention } = this.#settings;
    const recordKey = keys.idempotency(request.scope, request.key);
    const wakeUp = this.#wakeUps?.expect(recordKey);
    const waitMs = wakeUp === undefined ? 0 : Number.POSITIVE_INFINITY;
    const token = freshToken();
    let isWaiter = false;
    const ask = (hasWaited: boolean) => {
      isWaiter = hasWaited;
      // The deadline limits the time that a request spends on Redis, not its wait for another request.
      return this.#ask(request, { recordKey, token }, hasWaited ? undefined : deadline);
    };
    const undo = () => discardAttempt({ recordKey, token }, { retention, hasRun: false }, this.#deps);
    try {
      const claim = { ask, undo, undoForMs: lease, waitMs, wakeUp, signal };
      const { granted } = await makeClaim(claim, this.#deps);
      return granted ?? { kind: 'in-flight' };
    } catch (error) {
      if (isWaiter && signal?.aborted !== true) return { kind: 'unknown', error };
      throw error;
    }
  }

  async #ask(
    { key, fingerprint }: KeyedRequest,
    { recordKey, token }: { readonly recordKey: string; readonly token: string },
    deadline: Deadline | undefined,
  ): Promise<ClaimReply<KeyState>> {
    const { lease, retention, waits } = this.#settings;
    const { engine, reporter } = this.#deps;
    const args = { token, fingerprint, lease, retention, waits };
    const reply = await engine.run(idempotencyBegin, [recordKey], args, deadline);
    if (reply.found === 'corrupt') throw corrupt(recordKey);
    const { outcome, attempt, leftMs } = reply;
    if (outcome === 'running') return { leftMs, needsUndo: false };
    if (outcome === 'recovered') reporter.events.emit('idempotency:recovered', { key, attempt });
    const granted = this.#stateOf(reply, { recordKey, key, token, fingerprint, attempt });
    return { granted, leftMs, needsUndo: false };
  }

  #stateOf({ outcome, response }: IdempotencyBeginReply, grant: GrantedAttempt): KeyState {
    if (outcome === 'mismatch' || outcome === 'unkept') return { kind: outcome };
    if (outcome !== 'done') {
      return { kind: 'attempt', attempt: new Attempt(grant, this.#settings, this.#deps) };
    }
    const recorded = response === null ? undefined : unpackResponse(response);
    if (recorded === undefined) throw corrupt(grant.recordKey);
    this.#deps.reporter.events.emit('idempotency:replayed', { key: grant.key });
    return { kind: 'replay', response: recorded };
  }
}

/** Subscribes to the ends of attempts in all processes, which wake the waiters of this process. */
function subscribe({ pubSub, keys, closing }: IdempotencyDeps): WakeUps {
  const wakeUps = new WakeUps();
  pubSub.subscribe(keys.idempotencyChannel(), {
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
