import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';

/** Status and headers at one moment, before they were sent. */
export interface Head {
  readonly status: number;
  readonly message: string;
  readonly headers: readonly (readonly [string, OutgoingHttpHeader])[];
}

export function headOf(res: ServerResponse): Head {
  const headers = Object.entries(res.getHeaders()).map(([name, value]) => [name, value ?? ''] as const);
  return { status: res.statusCode, message: res.statusMessage, headers };
}

export function restoreHead(res: ServerResponse, head: Head): void {
  const kept = new Set(head.headers.map(([name]) => name));
  for (const name of res.getHeaderNames()) if (!kept.has(name)) res.removeHeader(name);
  for (const [name, value] of head.headers) if (res.getHeader(name) !== value) res.setHeader(name, value);
  res.statusCode = head.status;
  res.statusMessage = head.message;
}

/** The headers that `writeHead` takes: an object, a flat list of names and values, or a list of pairs. */
export function applyHeaders(res: ServerResponse, headers: unknown): void {
  if (!Array.isArray(headers)) {
    for (const [name, value] of Object.entries((headers ?? {}) as OutgoingHttpHeaders)) {
      if (value !== undefined) res.setHeader(name, value);
    }
    return;
  }
  const flat = (Array.isArray(headers[0]) ? headers.flat() : headers) as string[];
  for (let index = 0; index < flat.length; index += 2) res.removeHeader(flat[index] ?? '');
  for (let index = 0; index < flat.length; index += 2)
    res.appendHeader(flat[index] ?? '', flat[index + 1] ?? '');
}

/** Makes a boolean of the response true also while `claim` holds. */
export function alsoTrue(
  res: ServerResponse,
  name: 'headersSent' | 'writableEnded',
  claim: () => boolean,
): void {
  let owner: object | null = res;
  while (owner !== null && Object.getOwnPropertyDescriptor(owner, name) === undefined) {
    owner = Object.getPrototypeOf(owner);
  }
  const getter = owner === null ? undefined : Object.getOwnPropertyDescriptor(owner, name)?.get;
  Object.defineProperty(res, name, {
    configurable: true,
    enumerable: true,
    get: () => claim() || getter?.call(res) === true,
  });
}
