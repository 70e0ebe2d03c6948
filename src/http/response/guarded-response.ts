import type { ServerResponse } from 'node:http';
import { type Method, MethodInterception } from './method-interception.ts';
import { type GuardedMethod, ResponseGuard } from './response-guard.ts';
import { takesFlatHeaders } from './response-head.ts';
import type { ResponseHook } from './response-hook.ts';
import { knownStateOf, type ResponseState, stateOf } from './response-state.ts';

export type { LateHeaders, Replacement, ResponseHook } from './response-hook.ts';

type GuardedState = ResponseState & { guard?: ResponseGuard };

const interception = new MethodInterception<GuardedMethod>(
  'the guard',
  ['write', 'end', 'writeHead', 'flushHeaders', 'destroy'],
  ({ guard }: GuardedState) => guard,
);

/** Registers a hook. The first hook of a response begins to guard it. */
export function addResponseHook(res: ServerResponse, hook: ResponseHook): void {
  const state: GuardedState = stateOf(res);
  state.guard ??= new ResponseGuard(res, interception.begin(res));
  state.guard.add(hook);
}

function guardOf(res: ServerResponse): ResponseGuard | undefined {
  const state: GuardedState | undefined = knownStateOf(res);
  return state?.guard;
}

/** Whether a hook was registered, so that the response may change while it is sent. */
export function isGuarded(res: ServerResponse): boolean {
  return guardOf(res) !== undefined;
}

/** Whether headers can still be changed. A recorded head that is not sent is open, although `headersSent` is true. */
export function isHeadOpen(res: ServerResponse): boolean {
  return guardOf(res)?.outgoing.isOpen ?? !res.headersSent;
}

/** Whether the head is being sent, so that the code that runs is a listener of middleware and not the handler. */
export function isHeadPassing(res: ServerResponse): boolean {
  return guardOf(res)?.outgoing.isPassing === true;
}

/** Sets the status and a flat list of names and values, with one `writeHead` call unless `writeHead` is wrapped. */
export function writeFlatHead(
  res: ServerResponse,
  status: number,
  headers: readonly (string | string[])[],
): void {
  const writeHead = res.writeHead as Method;
  if (writeHead === guardOf(res)?.methods.installed.writeHead || takesFlatHeaders(writeHead)) {
    res.writeHead(status, headers as string[]);
    return;
  }
  for (let at = 0; at < headers.length; at += 2) res.setHeader(String(headers[at]), headers[at + 1] ?? '');
  res.statusCode = status;
}
