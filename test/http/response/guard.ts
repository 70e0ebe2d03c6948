import type { ServerResponse } from 'node:http';
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

export function ownMethods(res: object): readonly string[] {
  return METHODS.filter((name) => Object.hasOwn(res, name));
}

/** Adds everything that the kit can add to a response, and a hook that logs its calls. */
export function guard(res: ServerResponse, log: string[], waits = false): void {
  const hook: ResponseHook = { ...logging(log, 'lock', waits), closedEarly: nothing, abandoned: nothing };
  addResponseHook(res, { ...hook, withholdsLastBytes: true });
  watchHandlerHeaders(res, () => false);
}

function nothing(): void {
  // The hook needs the method, but not what it does.
}

export const RAN = ['lock headers', 'lock end'];
