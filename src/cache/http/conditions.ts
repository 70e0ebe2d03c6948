import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { CachedResponse } from './cached-response.ts';

/** With these a handler would answer in part or not at all, and nothing could be kept for the others. */
const CONDITIONAL = ['if-none-match', 'if-modified-since', 'if-range', 'range'] as const;

/** With these a handler answers what was asked in part or under conditions. */
export const OF_CONDITIONS: ReadonlySet<number> = new Set([206, 304, 412, 416]);

/** Under which conditions a client wants an answer. */
export interface Conditions {
  /** The request with those that were taken off it. */
  readonly request: Pick<IncomingMessage, 'method' | 'headers'>;
  /** Whether the handler sees the client's own, so that it may answer in part or not at all. */
  readonly areLeft: boolean;
  restore(): void;
}

/** The fields by which a handler is asked to validate a stored response (RFC 9111, section 4.3.1). */
export function validatingFields({ etag, lastModified }: CachedResponse): IncomingHttpHeaders {
  return {
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
    ...(lastModified === undefined ? {} : { 'if-modified-since': lastModified }),
  };
}

/**
 * Takes the conditions off a request while a handler makes the whole, or validates the stored response that is given: its
 * validators are then the only conditions.
 */
export function takeConditions(req: IncomingMessage, validated: CachedResponse | undefined): Conditions {
  const taken: IncomingHttpHeaders = {};
  for (const name of CONDITIONAL) {
    const value = req.headers[name];
    if (value === undefined) continue;
    Object.assign(taken, { [name]: value });
    delete req.headers[name];
  }
  const given = validated === undefined ? {} : validatingFields(validated);
  Object.assign(req.headers, given);
  const coding = { 'accept-encoding': req.headers['accept-encoding'] };
  return {
    request: { method: req.method, headers: { ...coding, ...taken } },
    areLeft: false,
    restore() {
      for (const name of Object.keys(given)) delete req.headers[name];
      Object.assign(req.headers, taken);
    },
  };
}

const NONE = { request: { method: 'GET', headers: {} }, restore: () => undefined };

/** For a request that has no conditions of a client. */
export const NO_CONDITIONS: Conditions = { ...NONE, areLeft: false };

/** For a request whose conditions are left to the handler. */
export const LEFT_CONDITIONS: Conditions = { ...NONE, areLeft: true };
