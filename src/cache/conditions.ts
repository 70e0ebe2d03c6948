import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/** With these a handler would answer in part or not at all, and nothing could be kept for the others. */
const CONDITIONAL = ['if-none-match', 'if-modified-since', 'if-range', 'range'] as const;

/** Under which conditions a client wants an answer; taken from the request while a handler makes the whole. */
export interface Conditions {
  /** The request with them. */
  readonly request: Pick<IncomingMessage, 'method' | 'headers'>;
  restore(): void;
}

/** Takes the conditions off a request, and puts others there: those of the cache itself. */
export function takeConditions(req: IncomingMessage): Conditions {
  const taken: IncomingHttpHeaders = {};
  for (const name of CONDITIONAL) {
    const value = req.headers[name];
    if (value === undefined) continue;
    Object.assign(taken, { [name]: value });
    delete req.headers[name];
  }
  return {
    request: { method: req.method, headers: taken },
    restore() {
      Object.assign(req.headers, taken);
    },
  };
}
