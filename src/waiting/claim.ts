import { performance } from 'node:perf_hooks';
import { ConnectionError, closedError } from '../base/errors.ts';
import type { OpenWork } from '../base/open-work.ts';
import { mayHaveRun, sendUntilAnswered } from './retry.ts';
import type { WakeUp } from './wake-ups.ts';

/** A claim to a lock, a slot or an idempotency key. */
export interface Claim<Grant> {
  /** Asks the store once. Asking again with the same token must do no harm. */
  ask(hasWaited: boolean): Promise<ClaimReply<Grant>>;
  /** Releases the grant or the place in the queue that the claim may have. */
  undo(): Promise<unknown>;
  /** How long the undo is retried. Afterwards the grant and the place in the queue have expired. */
  readonly undoForMs: number;
  readonly waitMs: number;
  /** Undefined for a claim that does not wait. */
  readonly wakeUp: WakeUp | undefined;
  /** Read when the claim must wait, so that a getter can create the signal then: signals are expensive. */
  readonly signal?: AbortSignal | undefined;
  /** Reports an outage during the wait, which then continues. Without this function, any failure ends the claim. */
  readonly failed?: ((error: unknown) => void) | undefined;
}

export interface ClaimReply<Grant> {
  /** Undefined while the claim waits, and when the claim is refused. */
  readonly granted?: Grant | undefined;
  /** Milliseconds until asking again may succeed; -1 when unknown. */
  readonly leftMs: number;
  /** Whether the store now holds a grant or a place in the queue for this claim. */
  readonly needsUndo: boolean;
  /** Whether the claim was refused without a place in the queue, so that waiting does not help. */
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

/** The pause before a waiter asks again if the store did not say how long to wait. */
const ASK_AGAIN_MS = 500;

/**
 * Asks until the claim is granted or refused or its wait is over, and undoes a claim that ends without a grant. Rejects
 * when the first or the last command fails, when the kit closes during the wait, and, with the signal's reason, when
 * the signal aborts. Other commands may fail because of an outage only.
 */
export async function makeClaim<Grant>(claim: Claim<Grant>, deps: ClaimDeps): Promise<ClaimResult<Grant>> {
  const { wakeUp } = claim;
  const waitsUntil = wakeUp === undefined ? 0 : performance.now() + claim.waitMs;
  let reply: ClaimReply<Grant>;
  try {
    reply = await claim.ask(false);
  } catch (error) {
    endClaim(claim, mayHaveRun(error), deps);
    throw error;
  }
  const { granted, leftMs, needsUndo, isRefused } = reply;
  if (granted === undefined && isRefused !== true && wakeUp !== undefined) {
    return waitForGrant(claim, { wakeUp, waitsUntil, reply }, deps);
  }
  endClaim(claim, granted === undefined && needsUndo, deps);
  return { granted, leftMs, hasWaited: false };
}

interface Wait<Grant> {
  readonly wakeUp: WakeUp;
  readonly waitsUntil: number;
  /** The reply to the first command. */
  readonly reply: ClaimReply<Grant>;
}

async function waitForGrant<Grant>(
  claim: Claim<Grant>,
  { wakeUp, waitsUntil, reply: first }: Wait<Grant>,
  deps: ClaimDeps,
): Promise<ClaimResult<Grant>> {
  let reply = first;
  let { needsUndo } = first;
  let failure: unknown;
  try {
    for (let hasWaited = false; ; hasWaited = true) {
      const { granted, leftMs, isRefused } = reply;
      const left = waitsUntil - performance.now();
      if (granted !== undefined || isRefused === true || left <= 0) {
        if (failure !== undefined) throw failure;
        if (granted !== undefined) needsUndo = false;
        return { granted, leftMs, hasWaited };
      }
      await wakeUp.wait(Math.min(leftMs < 0 ? ASK_AGAIN_MS : leftMs, left), claim.signal);
      if (deps.closing.aborted) throw closedError();
      claim.signal?.throwIfAborted();
      failure = undefined;
      try {
        reply = await claim.ask(true);
        needsUndo = reply.needsUndo;
      } catch (error) {
        needsUndo ||= mayHaveRun(error);
        // A waiter keeps waiting during an outage. If the first command fails, the failure policy of the feature applies.
        if (claim.failed === undefined || !isOutage(error)) throw error;
        claim.failed(error);
        failure = error;
        reply = { leftMs: -1, needsUndo };
      }
    }
  } finally {
    endClaim(claim, needsUndo, deps);
  }
}

/** Ends the wait, and undoes the claim if it may have a grant or a place in the queue. */
function endClaim<Grant>(claim: Claim<Grant>, needsUndo: boolean, { work }: ClaimDeps): void {
  claim.wakeUp?.stop();
  if (needsUndo) void sendUntilAnswered(() => claim.undo(), claim.undoForMs, work);
}

function isOutage(error: unknown): boolean {
  return error instanceof ConnectionError || mayHaveRun(error);
}
