import type { ServerResponse } from 'node:http';
import { suspendBackpressure } from '../../../src/http/response/backpressure.ts';
import { addResponseHook, type ResponseHook } from '../../../src/http/response/guarded-response.ts';
import { watchHandlerHeaders } from '../../../src/http/response/handler-headers.ts';
import { logging } from '../exchange.ts';

/** The methods that the kit intercepts. */
export const METHODS = [
  'write',
  'end',
  'writeHead',
  'flushHeaders',
  'destroy',
  'setHeader',
  'appendHeader',
  'removeHeader',
] as const;

const FLAGS = ['headersSent', 'writableNeedDrain'] as const;

/** The intercepted methods and overridden flags that an object has itself, and not from its prototype. */
export function ownMethods(object: object): readonly string[] {
  return [...METHODS, ...FLAGS].filter((name) => Object.hasOwn(object, name));
}

/** Adds everything that the kit can add to a response, and a hook that logs its calls. */
export function guard(res: ServerResponse, log: string[], waits = false): void {
  const hook: ResponseHook = { ...logging(log, 'lock', waits), closedEarly: nothing, abandoned: nothing };
  addResponseHook(res, { ...hook, withholdsLastBytes: true });
  watchHandlerHeaders(res, () => false);
  if (waits) suspendBackpressure(res, () => false);
}

function nothing(): void {
  // The hook needs the method, but not what it does.
}

export const RAN = ['lock headers', 'lock end'];
