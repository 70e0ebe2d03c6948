import { performance } from 'node:perf_hooks';
import { asError } from '../base/errors.ts';
import type { Deadline } from '../engine/deadline.ts';
import { Batch, type BatchDeps } from './batch.ts';
import { corruptError, type GroupDecision, type PolicyGroup } from './decision.ts';
import { limitReserve, type ReserveReply } from './operations/reserve.ts';

export interface ReserveSettings {
  /** The units of a batch. */
  readonly units: number;
  /** How long, in milliseconds, this process may use a batch. */
  readonly holdMs: number;
}

/** The requests that wait for a batch. */
interface BatchTake {
  readonly group: PolicyGroup;
  readonly deadline: Deadline | undefined;
  readonly requests: { readonly cost: number; settle(decision: GroupDecision | undefined): void }[];
  /** Whether the counts of the identity were deleted since the command was sent. */
  isReset: boolean;
}

/** The batches of a limiter: per identity at most one that is open, and one command for the next. */
export class Reservations {
  readonly #settings: ReserveSettings;
  readonly #deps: BatchDeps;
  readonly #batches = new Map<string, Batch>();
  readonly #takes = new Map<string, BatchTake>();

  constructor(settings: ReserveSettings, deps: BatchDeps) {
    this.#settings = settings;
    this.#deps = deps;
  }

  /** Uses units of the open batch. Returns undefined if they must be taken first. */
  spend(group: PolicyGroup, cost: number): GroupDecision | undefined {
    const batch = this.#batches.get(group.denyKey);
    if (batch === undefined || !hasSameLimits(batch.group, group) || !batch.spend(cost)) return undefined;
    return batch.decided;
  }

  /**
   * Takes a batch and uses units of it. Requests that arrive before the reply share the command. Resolves to undefined
   * for a request that needs a command of its own: its cost is higher than a batch, its limits differ from those of the
   * batch, the command has failed, or the kit is closed.
   */
  take(group: PolicyGroup, cost: number, deadline?: Deadline): Promise<GroupDecision | undefined> {
    const { denyKey } = group;
    const pending = this.#takes.get(denyKey);
    const batch = this.#batches.get(denyKey);
    const others = pending?.group ?? (batch?.isOpen === true ? batch.group : group);
    if (cost > this.#settings.units || this.#deps.closing.aborted || !hasSameLimits(others, group)) {
      return Promise.resolve(undefined);
    }
    return new Promise((settle) => {
      const take = pending ?? { group, deadline, requests: [], isReset: false };
      take.requests.push({ cost, settle });
      if (pending !== undefined) return;
      this.#takes.set(denyKey, take);
      void this.#serve(take);
    });
  }

  /** Drops the batch of an identity whose counts are being deleted. */
  reset(denyKey: string): void {
    this.#batches.get(denyKey)?.drop();
    const take = this.#takes.get(denyKey);
    if (take !== undefined) take.isReset = true;
    this.#takes.delete(denyKey);
  }

  async #serve(take: BatchTake): Promise<void> {
    const { group, requests } = take;
    const { work, reporter } = this.#deps;
    work.begin();
    try {
      while (requests.length > 0 && (await this.#serveNext(take)));
    } catch (error) {
      reporter.failure('rate', asError(error));
    } finally {
      if (this.#takes.get(group.denyKey) === take) this.#takes.delete(group.denyKey);
      for (const { settle } of requests) settle(undefined);
      work.end();
    }
  }

  /** Takes one batch. Returns false if it could serve no request, because the command took longer than the hold. */
  async #serveNext(take: BatchTake): Promise<boolean> {
    const { group, requests, deadline } = take;
    const { units, holdMs } = this.#settings;
    const { keys, policies } = group;
    const least = requests[0]?.cost ?? 0;
    const demand = requests.reduce((sum, { cost }) => sum + cost, 0);
    const args = { least, most: Math.max(units, demand), holdMs, policies };
    // Measured from before the command, so that the hold ends here no later than in Redis.
    const openUntil = performance.now() + holdMs;
    const reply = await this.#deps.engine.run(limitReserve(policies), keys, args, deadline);
    if (reply.replies.some(({ found }) => found === 'corrupt')) {
      this.#deps.reporter.failure('rate', corruptError(`a value under ${keys.join(', ')}`));
    }
    if (reply.replies.some(({ allowed }) => !allowed)) {
      this.#refuse(take, least, reply);
      return true;
    }
    const batch = new Batch({ group, reply, openUntil, deps: this.#deps, ended: this.#ended });
    const waiting = requests.splice(0);
    for (const request of waiting) {
      if (batch.spend(request.cost)) request.settle(batch.decided);
      else requests.push(request);
    }
    this.#keep(batch, take);
    return requests.length < waiting.length;
  }

  /** Refuses the requests with this cost. Those with another cost may be allowed. */
  #refuse({ group, requests }: BatchTake, cost: number, { replies }: ReserveReply): void {
    const { engine } = this.#deps;
    for (const request of requests.splice(0)) {
      if (request.cost === cost) request.settle({ group, replies, engine, degraded: false });
      else requests.push(request);
    }
  }

  /** Keeps a batch for further requests, and closes the one before. */
  #keep(batch: Batch, { group: { denyKey }, isReset }: BatchTake): void {
    if (isReset) {
      batch.drop();
      return;
    }
    void this.#batches.get(denyKey)?.close();
    if (this.#deps.closing.aborted || !batch.isOpen) void batch.close();
    else this.#batches.set(denyKey, batch);
  }

  readonly #ended = (batch: Batch): void => {
    const { denyKey } = batch.group;
    if (this.#batches.get(denyKey) === batch) this.#batches.delete(denyKey);
  };
}

/** Whether the limits of two groups, which may depend on the request, are equal. */
function hasSameLimits(one: PolicyGroup, other: PolicyGroup): boolean {
  if (one === other) return true;
  if (one.policies.length !== other.policies.length) return false;
  return one.policies.every(({ name, limit }, index) => {
    const policy = other.policies[index];
    return name === policy?.name && limit === policy.limit;
  });
}
