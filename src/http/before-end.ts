import type { ServerResponse } from 'node:http';
import { asReader } from './departure.ts';
import { ResponseGuard } from './response-guard.ts';
import type { ResponseHook } from './response-hooks.ts';
import { isBodyTaken, type TakenBody } from './taken-body.ts';

export type { Replacement, ResponseHook } from './response-hooks.ts';

const GUARD: unique symbol = Symbol('the guard of the response');

interface Guarded extends TakenBody {
  readonly [GUARD]: ResponseGuard;
}

/** In the place of the response's own methods; the same for all responses, so that calls of them stay fast. */
const GUARDED = {
  write(this: Guarded, ...args: unknown[]) {
    return asReader(() => this[GUARD].write(args)) || isBodyTaken(this);
  },
  end(this: Guarded, ...args: unknown[]) {
    return asReader(() => this[GUARD].end(args));
  },
  writeHead(this: Guarded, ...args: unknown[]) {
    return asReader(() => this[GUARD].writeHead(args));
  },
  flushHeaders(this: Guarded) {
    asReader(() => this[GUARD].flushHeaders());
  },
};

/** Registers a hook. A response is wrapped once, however many hooks it gets. */
export function beforeEnd(res: ServerResponse & { [GUARD]?: ResponseGuard }, hook: ResponseHook): void {
  if (res[GUARD] === undefined) {
    // A property and no map: one that holds responses weakly costs several times as much.
    res[GUARD] = new ResponseGuard(res);
    Object.assign(res, GUARDED);
  }
  res[GUARD].add(hook);
}
