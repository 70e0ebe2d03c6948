import { asError, StoreError } from '../base/errors.ts';
import type { ConcurrencyKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { type ClaimReply, makeClaim } from '../waiting/claim.ts';
import type { ProcessChannel } from '../waiting/process-channel.ts';
import { type RenewableLease, Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import { concurrencyAcquire } from './operations/acquire.ts';
import { type ConcurrencyReleaseArgs, concurrencyRelease } from './operations/release.ts';
import { concurrencyRenew } from './operations/renew.ts';

/** The backend that counts slots: Redis, or the in-process fallback. */
export interface SlotBackend {
  readonly engine: Engine;
  readonly processChannel: ProcessChannel;
}

export interface SlotDeps {
  readonly reporter: Reporter;
  readonly work: OpenWork;
  readonly closing: AbortSignal;
}

export interface SlotRequest {
  readonly redisKeys: ConcurrencyKeys;
  readonly limit: number;
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly maxQueue: number;
  readonly signal?: AbortSignal | undefined;
  readonly deadline: Deadline;
}

export interface SlotResult {
  /** Undefined when the request was refused or its wait is over. */
  readonly slot: Slot | undefined;
  /** The number of slots in use, according to the last reply. */
  readonly running: number;
  readonly hasWaited: boolean;
}

/** Claims a slot, waiting up to `waitMs`. Rejects when the backend cannot be reached. */
export async function claimSlot(
  request: SlotRequest,
  { engine, processChannel }: SlotBackend,
  deps: SlotDeps,
): Promise<SlotResult> {
  const { redisKeys, limit, leaseMs, waitMs, maxQueue, signal } = request;
  const { reporter } = deps;
  const token = freshToken();
  const wakeUp = waitMs > 0 ? processChannel.expect(token) : undefined;
  const { process, channels } = processChannel;
  const grant = { engine, redisKeys, leaseMs, release: { token, waitMs, process, channels, limit } };
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
    return { granted: outcome === 'granted' ? new Slot(grant, deps) : undefined, leftMs, needsUndo: true };
  }

  const { granted, hasWaited } = await makeClaim(
    {
      ask,
      undo: () => releaseSlot(grant),
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

interface GrantedSlot {
  readonly engine: Engine;
  readonly redisKeys: ConcurrencyKeys;
  readonly leaseMs: number;
  readonly release: ConcurrencyReleaseArgs;
}

/** The slot of a request, from the grant to the release. `release` never rejects: failures are reported. */
export class Slot implements RenewableLease {
  readonly #grant: GrantedSlot;
  readonly #deps: SlotDeps;
  readonly #renewal: Renewal = new Renewal(this);
  #isOver = false;
  #released: Promise<void> | undefined;

  constructor(grant: GrantedSlot, deps: SlotDeps) {
    this.#grant = grant;
    this.#deps = deps;
    deps.work.begin();
    this.#renewal.start(grant.leaseMs);
  }

  /** Stops the renewal: the slot ends with its lease, unless the slot is released earlier. */
  leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#renewal.stop();
    this.#deps.work.end();
  }

  release(deadline?: Deadline): Promise<void> {
    this.#released ??= this.#release(deadline);
    return this.#released;
  }

  async renew(): Promise<boolean> {
    const { engine, redisKeys, release, leaseMs } = this.#grant;
    await engine.run(concurrencyRenew, [redisKeys.slots, redisKeys.line], { ...release, lease: leaseMs });
    return true;
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('concurrency', asError(error));
  }

  async #release(deadline: Deadline | undefined): Promise<void> {
    this.#renewal.stop();
    try {
      await releaseSlot(this.#grant, deadline);
    } catch (error) {
      this.failed(error);
      void sendUntilAnswered(() => releaseSlot(this.#grant), this.#grant.leaseMs, this.#deps.work);
    } finally {
      this.leave();
    }
  }
}

function releaseSlot({ engine, redisKeys, release }: GrantedSlot, deadline?: Deadline): Promise<boolean> {
  return engine.run(concurrencyRelease, [redisKeys.slots, redisKeys.line], release, deadline);
}

function corrupt(slotsKey: string): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `the value under ${slotsKey} cannot be read and counts as absent`,
  );
}
