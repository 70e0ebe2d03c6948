import type { IncomingMessage, ServerResponse } from 'node:http';
import { addResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import type { Slot } from './slot.ts';

const SLOTS: unique symbol = Symbol('the slots that the request has');

/** By their keys in Redis. */
export function slotsOf(req: IncomingMessage & { [SLOTS]?: Set<string> }): Set<string> {
  req[SLOTS] ??= new Set();
  return req[SLOTS];
}

/**
 * Holds a slot until its request is done: the handler has ended the response, or given it up. One whose client went away
 * may still run, and nobody would hear of its end if it stops quietly; so it keeps its slot for a lease and no longer.
 */
export function hold(res: ServerResponse, slot: Slot, free: () => Promise<void>): void {
  addResponseHook(res, {
    phase: 'lock',
    withholdsLastBytes: true,
    outlastsRefusal: true,
    beforeEnd: free,
    closedEarly: () => slot.leave(),
    abandoned: () => void free(),
  });
  whenUnserved(res, () => void free());
}
