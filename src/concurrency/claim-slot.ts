import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { type ClaimReply, makeClaim } from '../waiting/claim.ts';
import type { ProcessChannel } from '../waiting/process-channel.ts';
import { concurrencyAcquire } from './operations/acquire.ts';
import { type GrantedSlot, releaseSlot, Slot, type SlotDeps } from './slot.ts';

/** The backend that counts slots: Redis, or the in-process fallback. */
export interface SlotBackend {
  readonly engine: Engine;
  readonly processChannel: ProcessChannel;
}

export interface ClaimSlotDeps extends Omit<SlotDeps, 'engine'> {
  readonly keys: Keys;
  readonly closing: AbortSignal;
}

/** How a request asks for a slot. */
export interface SlotRequest {
  readonly key: string;
  readonly name: string;
  readonly limit: number;
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly maxQueue: number;
  readonly signal?: AbortSignal | undefined;
  readonly deadline: Deadline;
}

export interface SlotResult {
  /** Undefined when the request was refused. */
  readonly slot: Slot | undefined;
  /** The number of slots in use, by the last reply. */
  readonly running: number;
  readonly hasWaited: boolean;
}

/** Claims a slot, and waits for it up to `waitMs`. Rejects when the backend cannot be asked. */
export async function claimSlot(
  request: SlotRequest,
  { engine, processChannel }: SlotBackend,
  deps: ClaimSlotDeps,
): Promise<SlotResult> {
  const { key, name, limit, leaseMs, waitMs, maxQueue, signal } = request;
  const { reporter } = deps;
  const redisKeys = deps.keys.concurrency(key, name);
  const token = freshToken();
  const wakeUp = waitMs > 0 ? processChannel.expect(token) : undefined;
  const { process, channels } = processChannel;
  const grant: GrantedSlot = { redisKeys, leaseMs, release: { token, waitMs, process, channels, limit } };
  let running = 0;

  async function ask(hasWaited: boolean): Promise<ClaimReply<Slot>> {
    const args = { ...grant.release, lease: leaseMs, maxQueue };
    // The deadline limits time spent on Redis, not a wait that the app asked for.
    const deadline = hasWaited ? undefined : request.deadline;
    const reply = await engine.run(concurrencyAcquire, [redisKeys.slots, redisKeys.line], args, deadline);
    if (reply.found === 'corrupt') reporter.failure('concurrency', corrupt(redisKeys.slots));
    running = reply.running;
    const { leftMs, outcome } = reply;
    if (outcome === 'refused') return { leftMs, needsUndo: false, isRefused: true };
    const granted =
      outcome === 'granted' ? new Slot(grant, { engine, reporter, work: deps.work }) : undefined;
    return { granted, leftMs, needsUndo: true };
  }

  const { granted, hasWaited } = await makeClaim(
    {
      ask,
      undo: () => releaseSlot(grant, engine),
      undoForMs: Math.max(leaseMs, waitMs),
      waitMs,
      wakeUp,
      signal,
      failed: (error) => reporter.failure('concurrency', asError(error)),
    },
    deps,
  );
  return { slot: granted, running, hasWaited };
}

function corrupt(slotsKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${slotsKey} cannot be read and counts as absent`,
  );
}
