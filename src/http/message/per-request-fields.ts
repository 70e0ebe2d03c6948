/*
 * Fields that describe how one request was handled. Stored with a response they would tell another client, or the same one
 * later, something false; so they are never stored nor replayed, and a middleware above adds those of the present request.
 */

/** A quota that one client has at one moment (draft-ietf-httpapi-ratelimit-headers, and the fields before it). */
const QUOTA = /^(x-)?rate-?limit(-|$)/;

/** Tracing of one request by Zipkin, Datadog, AWS and Google. */
const TRACE = /^x-(b3|datadog|amzn|cloud-trace)-/;

const OF_ONE_REQUEST: ReadonlySet<string> = new Set([
  // How long the handler took: nothing of it ran for a stored response.
  'server-timing',
  'x-response-time',
  'x-runtime',
  // Names by which a log has the request.
  'request-id',
  'x-request-id',
  'correlation-id',
  'x-correlation-id',
  'x-trace-id',
  // W3C Trace Context.
  'traceparent',
  'tracestate',
  'traceresponse',
]);

/**
 * Whether a field of a response, by its name in lower case, describes the request's own handling. `Retry-After` does in a
 * 429, where it says when the client of that request has quota again; elsewhere it is what the handler says of its resource.
 */
export function isPerRequestField(name: string, status: number): boolean {
  if (OF_ONE_REQUEST.has(name) || (name === 'retry-after' && status === 429)) return true;
  return QUOTA.test(name) || TRACE.test(name);
}
