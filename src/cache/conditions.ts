import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/** With these a handler would answer in part or not at all, and nothing could be kept for the others. */
const CONDITIONAL = ['if-none-match', 'if-modified-since', 'if-range', 'range'] as const;

/** Under which conditions a client wants an answer. */
export interface Conditions {
  /** The request with those that were taken off it. */
  readonly request: Pick<IncomingMessage, 'method' | 'headers'>;
  /** Whether the handler sees the client's own, so that it may answer in part or not at all. */
  readonly areLeft: boolean;
  restore(): void;
}

/** Takes the conditions off a request while a handler makes the whole. */
export function takeConditions(req: IncomingMessage): Conditions {
  const taken: IncomingHttpHeaders = {};
  for (const name of CONDITIONAL) {
    const value = req.headers[name];
    if (value === undefined) continue;
    Object.assign(taken, { [name]: value });
    delete req.headers[name];
  }
  const coding = { 'accept-encoding': req.headers['accept-encoding'] };
  return {
    request: { method: req.method, headers: { ...coding, ...taken } },
    areLeft: false,
    restore() {
      Object.assign(req.headers, taken);
    },
  };
}

const NONE = { request: { method: 'GET', headers: {} }, restore: () => undefined };

/** For a request that has no conditions of a client. */
export const NO_CONDITIONS: Conditions = { ...NONE, areLeft: false };

/** For a request whose conditions are left to the handler. */
export const LEFT_CONDITIONS: Conditions = { ...NONE, areLeft: true };
