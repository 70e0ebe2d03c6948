import { type IncomingMessage, type OutgoingHttpHeader, ServerResponse } from 'node:http';
import { trimWhitespace } from './message/optional-whitespace.ts';
import { isPerRequestField } from './message/per-request-fields.ts';
import { isGuarded } from './response/guarded-response.ts';
import { spelledNames } from './response/response-head.ts';

/** The methods by which middleware above changes a response while it is sent. */
const METHODS = ['writeHead', 'write', 'end', 'flushHeaders', 'setHeader', 'appendHeader', 'removeHeader'];

/** The header fields that middleware above has set before middleware of the kit answers. */
export class OuterHead {
  /** Names, as they were spelled, and values. */
  readonly headers: readonly (readonly [name: string, value: OutgoingHttpHeader])[];
  /** The request fields that the Vary field of the head names, with the values for which the head is known. */
  readonly #varied: readonly (readonly [name: string, value: string])[];
  readonly #text: string;

  private constructor(headers: OuterHead['headers'], varied: readonly (readonly [string, string])[]) {
    this.headers = headers;
    this.#varied = varied;
    this.#text = JSON.stringify([headers, varied]);
  }

  /** The outer head of a response, or why it cannot be repeated for another request. */
  static of(req: IncomingMessage, res: ServerResponse): OuterHead | string {
    if (isGuarded(res)) return 'a feature of the kit above may change the response while it is sent';
    const method = interceptedMethod(res);
    if (method !== undefined) return `middleware above replaces res.${method}`;
    const headers = spelledNames(res).map((name) => [name, copyOf(res.getHeader(name) ?? '')] as const);
    for (const [name] of headers) {
      const field = name.toLowerCase();
      if (field === 'set-cookie' || isPerRequestField(field, res.statusCode)) {
        return `middleware above sets ${name}, which is for one request`;
      }
    }
    const names = String(res.getHeader('vary') ?? '')
      .split(',')
      .map((name) => trimWhitespace(name).toLowerCase())
      .filter((name) => name !== '');
    if (names.includes('*')) return 'middleware above sets Vary: *';
    return new OuterHead(
      headers,
      names.map((name) => [name, requestValue(req, name)] as const),
    );
  }

  /** The approximate size in memory. */
  get bytes(): number {
    return this.#text.length * 4 + 500;
  }

  equals(other: OuterHead): boolean {
    return this.#text === other.#text;
  }

  /** Whether middleware above would set the same head for this request, by its Vary field. */
  isFor(req: IncomingMessage): boolean {
    for (const [name, value] of this.#varied) if (requestValue(req, name) !== value) return false;
    return true;
  }

  applyTo(res: ServerResponse): void {
    for (const [name, value] of this.headers) res.setHeader(name, copyOf(value));
  }
}

/** A method that middleware above has replaced, in order to change the response while it is sent. */
function interceptedMethod(res: ServerResponse): string | undefined {
  for (
    let owner: object | null = res;
    owner !== null;
    owner = Object.getPrototypeOf(owner) as object | null
  ) {
    if (owner === ServerResponse.prototype) return undefined;
    for (const name of METHODS) if (Object.hasOwn(owner, name)) return name;
  }
  return 'writeHead';
}

function requestValue({ headers }: IncomingMessage, name: string): string {
  return JSON.stringify(headers[name] ?? null);
}

/** Copies a list, since `appendHeader` changes lists in place. */
function copyOf(value: OutgoingHttpHeader): OutgoingHttpHeader {
  return Array.isArray(value) ? [...value] : value;
}
