import type { ServerResponse } from 'node:http';
import type { Deadline } from '../engine/deadline.ts';
import { closeSignalOf } from '../http/response/close-signal.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { isResponseOver, whenUnserved } from '../http/response/unserved.ts';
import type { ConcurrencySettings } from './options.ts';
import type { Slot, SlotRequest } from './slot.ts';

/** The slot that a request asks for. */
export class RequestedSlot implements SlotRequest {
  readonly redisKeys: SlotRequest['redisKeys'];
  readonly limit: number;
  readonly leaseMs: number;
  readonly waitMs: number;
  readonly maxQueue: number;
  readonly deadline: Deadline;
  readonly #res: ServerResponse;

  constructor(
    { redisKeys, limit }: Pick<SlotRequest, 'redisKeys' | 'limit'>,
    { lease, wait, maxQueue }: Pick<ConcurrencySettings, 'lease' | 'wait' | 'maxQueue'>,
    res: ServerResponse,
    deadline: Deadline,
  ) {
    this.redisKeys = redisKeys;
    this.limit = limit;
    this.leaseMs = lease;
    this.waitMs = wait;
    this.maxQueue = maxQueue;
    this.deadline = deadline;
    this.#res = res;
  }

  get signal(): AbortSignal | undefined {
    return this.waitMs > 0 ? closeSignalOf(this.#res) : undefined;
  }

  get isGone(): boolean {
    return isResponseOver(this.#res);
  }

  withWait(waitMs: number): RequestedSlot {
    const { leaseMs: lease, maxQueue, deadline } = this;
    return new RequestedSlot(this, { lease, wait: waitMs, maxQueue }, this.#res, deadline);
  }
}

/**
 * Releases a slot when the handler ends or destroys its response. After the client has disconnected, the handler may
 * run on, and may stop without ending the response. The slot is therefore no longer renewed, and ends with its lease at
 * the latest.
 */
class ResponseSlot implements ResponseHook {
  readonly phase = 'lock';
  readonly withholdsLastBytes = true;
  readonly outlastsRefusal = true;
  readonly #slot: Slot;
  readonly #deadline: Deadline;

  constructor(slot: Slot, deadline: Deadline) {
    this.#slot = slot;
    this.#deadline = deadline;
  }

  beforeEnd(): Promise<void> {
    return this.#slot.release(this.#deadline);
  }

  closedEarly(): void {
    this.#slot.leave();
  }

  abandoned(): void {
    void this.#slot.release(this.#deadline);
  }
}

export function releaseWithResponse(res: ServerResponse, slot: Slot, deadline: Deadline): void {
  addResponseHook(res, new ResponseSlot(slot, deadline));
  whenUnserved(res, () => void slot.release(deadline));
}
