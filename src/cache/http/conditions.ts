import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { CachedResponse } from './cached-response.ts';
import type { RangeRequest } from './range-response.ts';

/** The request fields that make a handler respond with a part or a 304, which cannot answer other requests. */
export const CONDITIONAL_FIELDS = ['if-none-match', 'if-modified-since', 'if-range', 'range'] as const;

/** The statuses with which a handler responds to a condition or to Range. */
export const CONDITIONAL_STATUSES: ReadonlySet<number> = new Set([206, 304, 412, 416]);

/** The conditional fields and Range of a client's request, while the handler runs. */
export interface Conditions {
  /** The method and the removed fields, by which the cache itself answers the conditions and Range. */
  readonly request: RangeRequest;
  /** Whether the handler sees the client's conditional fields, so that it may respond with a part or a 304. */
  readonly areLeft: boolean;
  restore(): void;
}

/** The request fields that ask a handler to validate a stored response (RFC 9111, section 4.3.1). */
export function validatingFields({ etag, lastModified }: CachedResponse): IncomingHttpHeaders {
  return {
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
    ...(lastModified === undefined ? {} : { 'if-modified-since': lastModified }),
  };
}

/**
 * Removes the conditional fields from a request until `restore()` is called, so that the handler makes the whole
 * response. If a stored response is to be validated, its validators become the only conditions.
 */
export function removeConditions(req: IncomingMessage, validated: CachedResponse | undefined): Conditions {
  const removed: IncomingHttpHeaders = {};
  for (const name of CONDITIONAL_FIELDS) {
    const value = req.headers[name];
    if (value === undefined) continue;
    Object.assign(removed, { [name]: value });
    delete req.headers[name];
  }
  const added = validated === undefined ? {} : validatingFields(validated);
  Object.assign(req.headers, added);
  const coding = { 'accept-encoding': req.headers['accept-encoding'] };
  return {
    request: { method: req.method, headers: { ...coding, ...removed } },
    areLeft: false,
    restore() {
      for (const name of Object.keys(added)) delete req.headers[name];
      Object.assign(req.headers, removed);
    },
  };
}

const NONE = { request: { method: 'GET', headers: {} }, restore: () => undefined };

/** For a handler run without conditions of a client. */
export const NO_CONDITIONS: Conditions = { ...NONE, areLeft: false };

/** For a request whose conditional fields are left to the handler. */
export const LEFT_CONDITIONS: Conditions = { ...NONE, areLeft: true };
