import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { type Answer, askInTurn } from '../waiting/ask-in-turn.ts';
import { insist, mayHaveRun } from '../waiting/insist.ts';
import type { Turns } from '../waiting/turns.ts';
import { concurrencyAcquire } from './operations/acquire.ts';
import { freeSlot, Slot, type SlotDeps, type Taken } from './slot.ts';

/** Where slots are counted: in Redis, or in this process while Redis is away. */
export interface Store {
  readonly engine: Engine;
  readonly turns: Turns;
}

export interface SlotsDeps extends Omit<SlotDeps, 'engine'> {
  readonly keys: Keys;
  readonly closing: AbortSignal;
}

/** How a slot is wanted. */
export interface Wanted {
  readonly key: string;
  readonly name: string;
  readonly limit: number;
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly maxQueue: number;
  readonly signal?: AbortSignal | undefined;
  readonly deadline: Deadline;
}

export interface Result {
  /** Undefined when it was refused. */
  readonly slot: Slot | undefined;
  /** How many were running, as it was last told. */
  readonly running: number;
  readonly hasWaited: boolean;
}

/** Asks for a slot, and waits for one where that is wanted. Rejects when the store cannot be asked. */
export async function takeSlot(wanted: Wanted, { engine, turns }: Store, deps: SlotsDeps): Promise<Result> {
  const { key, name, limit, leaseMs, waitMs, maxQueue, signal, deadline } = wanted;
  const { reporter, closing } = deps;
  const keys = deps.keys.concurrency(key, name);
  const token = freshToken();
  const turn = waitMs > 0 ? turns.wait(token) : undefined;
  const { process, channels } = turns;
  const taken: Taken = { keys, leaseMs, ask: { token, waitMs, process, channels, limit } };
  let running = 0;
  let isKnown = false;

  async function ask(hasWaited: boolean): Promise<Answer<Slot>> {
    try {
      const args = { ...taken.ask, lease: leaseMs, maxQueue };
      // The wait is the user's wish; a request may need its time for Redis again when it is over.
      const within = hasWaited ? undefined : deadline;
      const reply = await engine.run(concurrencyAcquire, [keys.slots, keys.line], args, within);
      if (reply.found === 'corrupt') reporter.failure('concurrency', corrupt(keys.slots));
      running = reply.running;
      const { leftMs, outcome } = reply;
      isKnown = outcome !== 'refused';
      if (outcome !== 'granted') return { leftMs, isFinal: outcome === 'refused' };
      return { granted: new Slot(taken, { ...deps, engine }), leftMs };
    } catch (error) {
      isKnown ||= mayHaveRun(error);
      throw error;
    }
  }

  function leave(): void {
    if (isKnown) void insist(() => freeSlot(taken, engine), Math.max(leaseMs, waitMs));
  }

  try {
    const failed = (error: unknown) => void reporter.failure('concurrency', asError(error));
    const patience = { waitMs, turn, signal, closing, failed };
    const { granted: slot, hasWaited } = await askInTurn(ask, patience);
    if (slot === undefined) leave();
    return { slot, running, hasWaited };
  } catch (error) {
    leave();
    throw error;
  } finally {
    turn?.end();
  }
}

function corrupt(key: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${key} cannot be read and counts as absent`,
  );
}
