import { performance } from 'node:perf_hooks';
import { ConnectionError, closedError } from '../base/errors.ts';
import type { OpenWork } from '../base/open-work.ts';
import { mayHaveRun, sendUntilAnswered } from './retry.ts';
import type { WakeUp } from './wake-ups.ts';

/** A claim to a lock, a slot or an idempotency key. */
export interface Claim<Grant> {
  /** Asks the store once. Asking again with the same token must do no harm. */
  ask(hasWaited: boolean): Promise<ClaimReply<Grant>>;
  /** Releases a grant and leaves the queue. */
  undo(): Promise<unknown>;
  /** How long the undo is retried. Afterwards the grant and the place in the queue have expired. */
  readonly undoForMs: number;
  readonly waitMs: number;
  /** Undefined for a claim that does not wait. */
  readonly wakeUp: WakeUp | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Reports a failure after which the waiter keeps waiting. If it is undefined, each failure ends the claim. */
  readonly failed?: ((error: unknown) => void) | undefined;
}

export interface ClaimReply<Grant> {
  /** Undefined while the claim waits, and when it is refused. */
  readonly granted?: Grant | undefined;
  /** Milliseconds until asking again may succeed; -1 when unknown. */
  readonly leftMs: number;
  /** Whether the store now holds a grant or a place in the queue for this claim. */
  readonly needsUndo: boolean;
  /** The claim was refused, and waiting does not help. */
  readonly isRefused?: boolean;
}

export interface ClaimResult<Grant> extends Pick<ClaimReply<Grant>, 'granted' | 'leftMs'> {
  readonly hasWaited: boolean;
}

export interface ClaimDeps {
  readonly work: OpenWork;
  /** Aborts when the kit is closed. */
  readonly closing: AbortSignal;
}

/** The pause before a waiter asks again when the time is unknown. */
const ASK_AGAIN_MS = 500;

/**
 * Asks until the claim is granted or its wait is over, and undoes a claim that ends without a grant. Rejects when the
 * first command fails, when a command fails at the end of the wait, when the kit is closed, and with the signal's reason
 * when it aborts.
 */
export async function makeClaim<Grant>(
  claim: Claim<Grant>,
  { work, closing }: ClaimDeps,
): Promise<ClaimResult<Grant>> {
  let needsUndo = false;
  async function ask(hasWaited: boolean): Promise<ClaimReply<Grant>> {
    try {
      const reply = await claim.ask(hasWaited);
      needsUndo = reply.needsUndo;
      return reply;
    } catch (error) {
      needsUndo ||= mayHaveRun(error);
      throw error;
    }
  }
  try {
    const result = await askUntilGranted(ask, claim, closing);
    if (result.granted !== undefined) needsUndo = false;
    return result;
  } finally {
    claim.wakeUp?.stop();
    if (needsUndo) void sendUntilAnswered(() => claim.undo(), claim.undoForMs, work);
  }
}

async function askUntilGranted<Grant>(
  ask: Claim<Grant>['ask'],
  { waitMs, wakeUp, signal, failed }: Claim<Grant>,
  closing: AbortSignal,
): Promise<ClaimResult<Grant>> {
  const deadline = performance.now() + waitMs;
  for (let hasWaited = false; ; hasWaited = true) {
    let reply: ClaimReply<Grant> | undefined;
    let failure: unknown;
    try {
      reply = await ask(hasWaited);
    } catch (error) {
      // A waiter outlives a short outage; before that, the failure policy of the feature applies.
      if (!hasWaited || failed === undefined || !isOutage(error)) throw error;
      failed(error);
      failure = error;
    }
    const { granted, leftMs = -1, isRefused } = reply ?? {};
    const left = deadline - performance.now();
    if (granted !== undefined || isRefused === true || wakeUp === undefined || left <= 0) {
      if (failure !== undefined) throw failure;
      return { granted, leftMs, hasWaited };
    }
    await wakeUp.wait(Math.min(leftMs < 0 ? ASK_AGAIN_MS : leftMs, left), signal);
    if (closing.aborted) throw closedError();
    signal?.throwIfAborted();
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof ConnectionError || mayHaveRun(error);
}
