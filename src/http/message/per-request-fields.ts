/*
 * Response fields that describe how one request was handled. Such fields would be wrong for another request and are
 * neither stored nor replayed; middleware above sets the fields of the current request.
 */

/** Rate limit fields (draft-ietf-httpapi-ratelimit-headers, and its predecessors). */
const QUOTA = /^(x-)?rate-?limit(-|$)/;

/** Trace fields of Zipkin, Datadog, AWS and Google. */
const TRACE = /^x-(b3|datadog|amzn|cloud-trace)-/;

const PER_REQUEST: ReadonlySet<string> = new Set([
  // The time that the handler took. For a stored response, no handler runs.
  'server-timing',
  'x-response-time',
  'x-runtime',
  // Ids of the request in logs.
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
 * Whether a response field, by its name in lower case, describes the handling of one request. In a 429, `Retry-After`
 * depends on the client's quota; in other responses, `Retry-After` describes the resource.
 */
export function isPerRequestField(name: string, status: number): boolean {
  if (PER_REQUEST.has(name) || (name === 'retry-after' && status === 429)) return true;
  return QUOTA.test(name) || TRACE.test(name);
}
