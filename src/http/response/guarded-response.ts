import type { ServerResponse } from 'node:http';
import { isBackpressureSuspended, type PacedResponse } from './backpressure.ts';
import { asKit } from './kit-reads.ts';
import { ResponseGuard } from './response-guard.ts';
import { takesFlatHeaders } from './response-head.ts';
import type { ResponseHook } from './response-hook.ts';

export type { LateHeaders, Replacement, ResponseHook } from './response-hook.ts';

const GUARD: unique symbol = Symbol('the response guard');

interface GuardedResponse extends PacedResponse {
  readonly [GUARD]: ResponseGuard;
}

/** The methods that replace those of a response. All responses share them, so that V8 can optimize their calls. */
const GUARDED = {
  write(this: GuardedResponse, ...args: unknown[]) {
    return asKit(() => this[GUARD].write(args)) || isBackpressureSuspended(this);
  },
  end(this: GuardedResponse, ...args: unknown[]) {
    return asKit(() => this[GUARD].end(args));
  },
  writeHead(this: GuardedResponse, ...args: unknown[]) {
    return asKit(() => this[GUARD].writeHead(args));
  },
  flushHeaders(this: GuardedResponse) {
    asKit(() => this[GUARD].flushHeaders());
  },
};

type MaybeGuarded = ServerResponse & { [GUARD]?: ResponseGuard };

/** Registers a hook. The first hook of a response installs the guard. */
export function addResponseHook(res: MaybeGuarded, hook: ResponseHook): void {
  // The guard is a property of the response, since a WeakMap is several times slower.
  res[GUARD] ??= new ResponseGuard(res, GUARDED);
  res[GUARD].add(hook);
}

/** Whether headers can still be changed. A recorded head that is not sent is open, although `headersSent` is true. */
export function isHeadOpen(res: MaybeGuarded): boolean {
  return res[GUARD]?.outgoing.isOpen ?? !res.headersSent;
}

/** Whether the head is being sent, so that the code that runs is a listener of middleware and not the handler. */
export function isHeadPassing(res: MaybeGuarded): boolean {
  return res[GUARD]?.outgoing.isPassing === true;
}

/** Sets the status and a flat list of names and values, with one `writeHead` call unless `writeHead` is wrapped. */
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
