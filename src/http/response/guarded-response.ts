import type { ServerResponse } from 'node:http';
import { isBackpressureSuspended, type PacedResponse } from './backpressure.ts';
import { asReader } from './disconnect-watch.ts';
import { ResponseGuard } from './response-guard.ts';
import { takesFlatHeaders } from './response-head.ts';
import type { ResponseHook } from './response-hooks.ts';

export type { LateHeaders, Replacement, ResponseHook } from './response-hooks.ts';

const GUARD: unique symbol = Symbol('the guard of the response');

interface Guarded extends PacedResponse {
  readonly [GUARD]: ResponseGuard;
}

/** In the place of the response's own methods; the same for all responses, so that calls of them stay fast. */
const GUARDED = {
  write(this: Guarded, ...args: unknown[]) {
    return asReader(() => this[GUARD].write(args)) || isBackpressureSuspended(this);
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

type MaybeGuarded = ServerResponse & { [GUARD]?: ResponseGuard };

/** Registers a hook. A response is guarded once, however many hooks it gets. */
export function addResponseHook(res: MaybeGuarded, hook: ResponseHook): void {
  // A property and no map: one that holds responses weakly costs several times as much.
  res[GUARD] ??= new ResponseGuard(res, GUARDED);
  res[GUARD].add(hook);
}

/** Whether a header that is set now is sent. `headersSent` is true earlier: once the handler's head waits for the hooks. */
export function isHeadOpen(res: MaybeGuarded): boolean {
  return res[GUARD]?.isHeadOpen ?? !res.headersSent;
}

/** Whether the head passes to Node at this moment: what runs now is a middleware's listener, and no handler. */
export function isHeadPassing(res: MaybeGuarded): boolean {
  return res[GUARD]?.outgoing.isPassing === true;
}

/** Sets the status and the headers, a flat list of names and values: in one call where nothing has wrapped `writeHead`. */
export function writeFlatHead(
  res: ServerResponse,
  status: number,
  headers: readonly (string | string[])[],
): void {
  const { writeHead } = res;
  const isGuards = (writeHead as unknown) === GUARDED.writeHead;
  if (isGuards || takesFlatHeaders(writeHead)) {
    res.writeHead(status, headers as string[]);
    return;
  }
  for (let at = 0; at < headers.length; at += 2) res.setHeader(String(headers[at]), headers[at + 1] ?? '');
  res.statusCode = status;
}
