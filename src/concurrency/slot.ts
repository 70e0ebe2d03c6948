import { asError } from '../base/errors.ts';
import type { ConcurrencyKeys } from '../base/keys.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import { freshToken } from '../base/token.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import { corruptValue } from '../engine/reply.ts';
import { type Claim, type ClaimReply, makeClaim } from '../waiting/claim.ts';
import type { ProcessChannel } from '../waiting/process-channel.ts';
import { type RenewableLease, Renewal } from '../waiting/renewal.ts';
import { sendUntilAnswered } from '../waiting/retry.ts';
import type { WakeUp } from '../waiting/wake-ups.ts';
import {
  type ConcurrencyAcquireArgs,
  type ConcurrencyAcquireReply,
  concurrencyAcquire,
} from './operations/acquire.ts';
import { concurrencyRelease } from './operations/release.ts';
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
  /** Ends the wait. Read when the request waits, so that a getter can create it lazily. */
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
export function claimSlot(request: SlotRequest, backend: SlotBackend, deps: SlotDeps): Promise<SlotResult> {
  const claim = new SlotClaim(request, backend, deps);
  return makeClaim(claim, deps).then(({ granted, hasWaited }) => ({
    slot: granted,
    running: claim.running,
    hasWaited,
  }));
}

class SlotClaim implements Claim<Slot> {
  readonly waitMs: number;
  readonly wakeUp: WakeUp | undefined;
  /** The number of slots in use, according to the last reply. */
  running = 0;
  readonly #request: SlotRequest;
  readonly #grant: GrantedSlot;
  readonly #deps: SlotDeps;

  constructor(request: SlotRequest, { engine, processChannel }: SlotBackend, deps: SlotDeps) {
    const { redisKeys, limit, leaseMs, waitMs, maxQueue } = request;
    const token = freshToken();
    this.waitMs = waitMs;
    this.wakeUp = waitMs > 0 ? processChannel.expect(token) : undefined;
    this.#request = request;
    this.#deps = deps;
    const { process, channels } = processChannel;
    const args = { token, waitMs, process, channels, limit, lease: leaseMs, maxQueue };
    this.#grant = { engine, redisKeys, args };
  }

  get undoForMs(): number {
    return Math.max(this.#grant.args.lease, this.waitMs);
  }

  get signal(): AbortSignal | undefined {
    return this.#request.signal;
  }

  ask(hasWaited: boolean): Promise<ClaimReply<Slot>> {
    const { engine, redisKeys, args } = this.#grant;
    // The deadline limits time spent on Redis, not a wait that the app asked for.
    const deadline = hasWaited ? undefined : this.#request.deadline;
    return engine
      .run(concurrencyAcquire, [redisKeys.slots, redisKeys.line], args, deadline)
      .then((reply) => this.#replyOf(reply));
  }

  undo(): Promise<boolean> {
    return releaseSlot(this.#grant);
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('concurrency', asError(error));
  }

  #replyOf({ found, outcome, leftMs, running }: ConcurrencyAcquireReply): ClaimReply<Slot> {
    if (found === 'corrupt') this.failed(corruptValue(`the value under ${this.#grant.redisKeys.slots}`));
    this.running = running;
    if (outcome === 'refused') return { leftMs, needsUndo: false, isRefused: true };
    const granted = outcome === 'granted' ? new Slot(this.#grant, this.#deps) : undefined;
    return { granted, leftMs, needsUndo: true };
  }
}

interface GrantedSlot {
  readonly engine: Engine;
  readonly redisKeys: ConcurrencyKeys;
  /** The arguments of the command that claimed the slot; those of the other commands are among them. */
  readonly args: ConcurrencyAcquireArgs;
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
    this.#renewal.start(grant.args.lease);
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
    const { engine, redisKeys, args } = this.#grant;
    await engine.run(concurrencyRenew, [redisKeys.slots, redisKeys.line], args);
    return true;
  }

  failed(error: unknown): void {
    this.#deps.reporter.failure('concurrency', asError(error));
  }

  #release(deadline: Deadline | undefined): Promise<void> {
    this.#renewal.stop();
    return releaseSlot(this.#grant, deadline).then(
      () => this.leave(),
      (error: unknown) => {
        this.failed(error);
        void sendUntilAnswered(() => releaseSlot(this.#grant), this.#grant.args.lease, this.#deps.work);
        this.leave();
      },
    );
  }
}

function releaseSlot({ engine, redisKeys, args }: GrantedSlot, deadline?: Deadline): Promise<boolean> {
  return engine.run(concurrencyRelease, [redisKeys.slots, redisKeys.line], args, deadline);
}
