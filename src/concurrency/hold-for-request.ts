import type { IncomingMessage, ServerResponse } from 'node:http';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import type { Slot } from './slot.ts';

const SLOTS: unique symbol = Symbol('the slots that the request has');

/** The Redis keys of the limits in which a request has a slot. The caller adds to the set. */
export function slotsOf(req: IncomingMessage & { [SLOTS]?: Set<string> }): Set<string> {
  req[SLOTS] ??= new Set();
  return req[SLOTS];
}

/**
 * Releases a slot when the handler has ended its response or given it up. When the client leaves, the handler may run on,
 * and no event shows its end if it stops without one; so the renewal stops, and the slot ends with its lease.
 */
export function releaseWithResponse(res: ServerResponse, slot: Slot, release: () => Promise<void>): void {
  addResponseHook(res, {
    phase: 'lock',
    withholdsLastBytes: true,
    outlastsRefusal: true,
    beforeEnd: release,
    closedEarly: () => slot.leave(),
    abandoned: () => void release(),
  });
  whenUnserved(res, () => void release());
}
