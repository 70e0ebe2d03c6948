import { type OutgoingHttpHeader, type OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type Method, methodBelow } from './method-interception.ts';

/** Node's `writeHead`, read before adapters or tracers replace it. */
const NATIVE_WRITE_HEAD = methodBelow(ServerResponse.prototype.writeHead as Method);

/**
 * Whether a `writeHead` certainly accepts a flat list of names and values, as Node's does. Wrappers may fail:
 * on-headers before 1.1 treats the list as an object, and sends headers named `0` and `1`.
 */
export function takesFlatHeaders(writeHead: Method): boolean {
  return methodBelow(writeHead) === NATIVE_WRITE_HEAD;
}

/** A copy of the status and the headers before they are sent. */
export interface Head {
  readonly status: number;
  readonly message: string | undefined;
  /** By the names in lower case. */
  readonly headers: Readonly<Record<string, OutgoingHttpHeader>>;
  /** The names as they were spelled, unless the head is rarely restored. */
  readonly names: readonly string[] | undefined;
}

export function headOf(res: ServerResponse): Head {
  return { ...outerHeadOf(res), names: spelledNames(res) };
}

/** A cheaper `headOf` without the spelling of names, for a head that is rarely restored. */
export function outerHeadOf(res: ServerResponse): Head {
  const current = res.getHeaders() as Record<string, OutgoingHttpHeader>;
  // Node returns a copy, and a mock possibly not.
  const headers = res instanceof ServerResponse ? current : { ...current };
  // `appendHeader` changes lists in place.
  for (const name in headers) headers[name] = copyOf(headers[name] ?? '');
  const message = hasMessage(res) ? res.statusMessage : undefined;
  return { status: res.statusCode, message, headers, names: undefined };
}

export function restoreHead(res: ServerResponse, { status, message, headers, names }: Head): void {
  for (const name of res.getHeaderNames()) if (!Object.hasOwn(headers, name)) res.removeHeader(name);
  for (const name of names ?? Object.keys(headers)) {
    const value = headers[name.toLowerCase()] ?? '';
    if (String(res.getHeader(name)) !== String(value)) res.setHeader(name, copyOf(value));
  }
  setStatus(res, status, message);
}

/** Sets the status and its message. Without a message, Node sends the standard message of the status. */
export function setStatus(res: ServerResponse, status: number, message?: string): void {
  res.statusCode = status;
  if (hasMessage(res)) Object.assign(res, { statusMessage: message });
}

/**
 * Applies the arguments of `writeHead`: a status, an optional message, and headers as an object, a flat list of names and
 * values, or a list of pairs. Throws the errors that Node throws.
 */
export function applyHead(res: ServerResponse, [status, second, third]: readonly unknown[]): void {
  assertStatus(status);
  const headers = typeof second === 'string' ? third : (third ?? second);
  if (Array.isArray(headers)) applyPairs(res, pairsOf(headers));
  else {
    for (const [name, value] of Object.entries((headers ?? {}) as OutgoingHttpHeaders)) {
      res.setHeader(name, value as OutgoingHttpHeader);
    }
  }
  res.statusCode = Number(status);
  if (typeof second === 'string' && hasMessage(res)) res.statusMessage = second;
}

/** Throws Node's error for an invalid status early: while Node sends the head, no handler can catch the error. */
export function assertStatus(status: unknown): void {
  const code = Number(status) | 0;
  if (code >= 100 && code <= 999) return;
  throw Object.assign(new RangeError(`Invalid status code: ${String(status)}`), {
    code: 'ERR_HTTP_INVALID_STATUS_CODE',
  });
}

/** Whether a response with this status has no body (RFC 9110, sections 15.3.5 and 15.4.5). */
export function forbidsBody(status: number): boolean {
  return status === 204 || status === 304;
}

/** Header names as they were spelled. HTTP/2 responses have only names in lower case, and no `getRawHeaderNames`. */
export function spelledNames(
  res: ServerResponse & { getRawHeaderNames?: () => string[] },
): readonly string[] {
  return res.getRawHeaderNames?.() ?? res.getHeaderNames();
}

/** Whether the response has a status message. HTTP/2 has none, and Node warns when `statusMessage` is read. */
function hasMessage({ req }: MaybeDetached): boolean {
  return (req?.httpVersionMajor ?? 1) < 2;
}

/** A response whose `req` may be absent, as in a mock. */
interface MaybeDetached {
  readonly req?: Pick<ServerResponse['req'], 'httpVersionMajor'>;
}

/** Copies a value that is a list, since `appendHeader` changes lists in place. */
function copyOf(value: OutgoingHttpHeader): OutgoingHttpHeader {
  return Array.isArray(value) ? [...value] : value;
}

type Pair = readonly [name: string, value: string];

function pairsOf(headers: readonly unknown[]): readonly Pair[] {
  if (Array.isArray(headers[0])) return headers as readonly Pair[];
  if (headers.length % 2 !== 0) {
    throw Object.assign(new TypeError('a flat list of headers must have an even length'), {
      code: 'ERR_INVALID_ARG_VALUE',
    });
  }
  return headers.flatMap((name, index) => (index % 2 === 0 ? [[name, headers[index + 1]] as Pair] : []));
}

/** Sets headers from pairs, and replaces earlier values. A name that occurs twice in the list is sent twice. */
function applyPairs(res: ServerResponse, pairs: readonly Pair[]): void {
  for (const [name] of pairs) res.removeHeader(name);
  for (const [name, value] of pairs) res.appendHeader(name, value);
}
