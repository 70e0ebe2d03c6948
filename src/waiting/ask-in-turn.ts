import { performance } from 'node:perf_hooks';
import { ConnectionError, closedError } from '../base/errors.ts';
import { mayHaveRun } from './insist.ts';
import type { Turn } from './turns.ts';

/** How long somebody waits for something, and what ends the wait. */
export interface Patience {
  readonly waitMs: number;
  /** Undefined for who does not wait. */
  readonly turn: Turn | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly closing: AbortSignal;
  /** Told of troubles that a wait outlives. */
  failed(error: unknown): void;
}

/** What a question came to: what was granted, or when it is worth asking again; -1 when nobody can tell. */
export interface Answer<Grant> {
  readonly granted?: Grant | undefined;
  readonly leftMs: number;
  /** It is of no use to wait. */
  readonly isFinal?: boolean;
}

/** How soon it is asked again where nobody can tell. */
const ASK_AGAIN_MS = 500;

/**
 * Asks until it is granted or it is time to give up. Rejects when the first question fails, when the store is away at the
 * end of the wait, when the kit is closed, and with the signal's reason. The question must do no harm when it is asked
 * again.
 */
export async function askInTurn<Grant>(
  ask: (hasWaited: boolean) => Promise<Answer<Grant>>,
  { waitMs, turn, signal, closing, failed }: Patience,
): Promise<Answer<Grant> & { readonly hasWaited: boolean }> {
  const deadline = performance.now() + waitMs;
  for (let hasWaited = false; ; hasWaited = true) {
    let answer: Answer<Grant> = { leftMs: -1 };
    let failure: unknown;
    try {
      answer = await ask(hasWaited);
    } catch (error) {
      // The first question says how things stand; who waits already outlives a short trouble.
      if (!hasWaited || !mayPass(error)) throw error;
      failed(error);
      failure = error;
    }
    const left = deadline - performance.now();
    if (answer.granted !== undefined || answer.isFinal === true || turn === undefined || left <= 0) {
      if (failure !== undefined) throw failure;
      return { ...answer, hasWaited };
    }
    await turn.pause(Math.min(answer.leftMs < 0 ? ASK_AGAIN_MS : answer.leftMs, left), signal);
    if (closing.aborted) throw closedError();
    signal?.throwIfAborted();
  }
}

function mayPass(error: unknown): boolean {
  return error instanceof ConnectionError || mayHaveRun(error);
}
