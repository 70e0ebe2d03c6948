import { type IncomingMessage, validateHeaderName } from 'node:http';
import type { Duration } from '../base/duration.ts';
import { LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { leaseOption, timerOption } from '../base/timed-options.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';
import type { OnDisconnect } from '../http/response/disconnect-watch.ts';
import type { IdempotencyRefusal } from './refusal.ts';

/** What happens when Redis cannot be asked whether a request has run. */
export type IdempotencyOnError = 'deny' | 'allow';

export interface IdempotencyOptions<Request extends IncomingMessage = Req> {
  /** The request header that has the key; default `Idempotency-Key`. */
  readonly header?: string | undefined;
  /** Refuse a request without the header, with 400; default false: it runs as if this middleware were not there. */
  readonly required?: boolean | undefined;
  /** The methods that are looked after; default POST and PATCH. The others are repeatable by themselves (RFC 9110). */
  readonly methods?: readonly string[] | undefined;
  /**
   * Whose key it is: equal keys of two scopes are two keys. Default: `req.session.userId`, else the Authorization header,
   * else the id of a session that the client came with, else, with a warning, the client's address. Give it where
   * credentials are renewed from request to request: a retry with another token would be somebody else's.
   */
  readonly scope?: ((req: Request) => string | Promise<string>) | undefined;
  /** What must be the same for a retry; default: method, URL and body. A hash of it is stored. */
  readonly fingerprint?: ((req: Request) => string | Uint8Array | Promise<string | Uint8Array>) | undefined;
  /** How long a run outlives a process that died before it may be repeated; renewed while it runs. Default `'30s'`. */
  readonly lease?: Duration | undefined;
  /** A handler that has not answered by then is given up: after its lease a retry runs. Default `'5m'`. */
  readonly maxRun?: Duration | undefined;
  /** How long an answer is kept, from its end; default `'24h'`. After that the same key runs anew. */
  readonly retention?: Duration | undefined;
  /** Bytes; a larger answer is sent and not kept, and its repeats are refused with 409. Default 1 MiB. */
  readonly maxBody?: number | undefined;
  /**
   * What becomes of a response that the handler ended after its client had left. `'detect'` (the default): it is recorded
   * unless the handler may have noticed and cut it short; then a retry runs again. `'keep'`: it is recorded, for handlers
   * that always finish their work. `'drop'`: a retry runs again.
   */
  readonly onDisconnect?: OnDisconnect | undefined;
  /** While the first request still runs, a repeat is refused with 409 (`'reject'`, the default), or waits for its answer. */
  readonly inFlight?: 'reject' | 'wait' | undefined;
  /**
   * Whether an answer of this status is final. Of what is not a retry runs again. Default: all but 401, 403, 408, 409, 425,
   * 429, 502, 503 and 504.
   */
  readonly store?: ((status: number) => boolean) | undefined;
  /** Redis out of reach before the request has run: 503 (`'deny'`, the default), or run without (`'allow'`). */
  readonly onError?: IdempotencyOnError | undefined;
  /** Takes over a refusal; default: its status as problem+json. The 503 of `onError` is none. */
  readonly handler?: ((req: Request, res: Res, next: Next, refusal: IdempotencyRefusal) => void) | undefined;
}

export interface IdempotencySettings {
  readonly header: string;
  readonly required: boolean;
  readonly methods: ReadonlySet<string>;
  readonly scope: IdempotencyOptions['scope'];
  readonly fingerprint: IdempotencyOptions['fingerprint'];
  readonly lease: number;
  readonly maxRun: number;
  readonly retention: number;
  readonly maxBody: number;
  readonly onDisconnect: OnDisconnect;
  readonly waits: boolean;
  readonly store: (status: number) => boolean;
  readonly onError: IdempotencyOnError;
  readonly handler: IdempotencyOptions['handler'];
}

const NAMES = [
  ...['header', 'required', 'methods', 'scope', 'fingerprint', 'lease', 'maxRun', 'retention', 'maxBody'],
  ...['onDisconnect', 'inFlight', 'store', 'onError', 'handler'],
] as const;

/** What users of other idempotency packages look for. */
const ELSEWHERE = {
  ...renamed('retention', ...LIFETIME_NAMES),
  ...renamed('header', 'headerName', 'headerKey', 'keyHeader', 'idempotencyKeyHeader'),
  key: 'the client sends the key in the header that `header` names; `scope` says whose it is',
  keyGenerator: 'the client sends the key in the header that `header` names; `scope` says whose it is',
};

const MEBIBYTE = 2 ** 20;

/** Redis keeps at most 512 MiB in a string, and nobody should come near. */
const MOST_BODY = 256 * MEBIBYTE;

/** They say that the request was not let in, or that nobody knows what became of it: a retry is to find out. */
const NOT_FINAL: ReadonlySet<number> = new Set([401, 403, 408, 409, 425, 429, 502, 503, 504]);

export function resolveIdempotencyOptions(options: IdempotencyOptions<never>): IdempotencySettings {
  checkNotMounted('kit.idempotency', options);
  return readSettings('kit.idempotency', options, { known: NAMES, elsewhere: ELSEWHERE }, (reader) => ({
    header: () => headerOption(reader),
    required: () => reader.boolean('required', false),
    methods: () => methodsOption(reader),
    scope: () => reader.callback<NonNullable<IdempotencyOptions['scope']>>('scope'),
    fingerprint: () => reader.callback<NonNullable<IdempotencyOptions['fingerprint']>>('fingerprint'),
    lease: () => leaseOption(reader, '30s'),
    maxRun: () => timerOption(reader, 'maxRun', '5m'),
    retention: () => reader.duration('retention', '24h'),
    maxBody: () => reader.integer('maxBody', { min: 0, max: MOST_BODY }) ?? MEBIBYTE,
    onDisconnect: () => reader.oneOf('onDisconnect', ['detect', 'keep', 'drop'], 'detect'),
    waits: () => reader.oneOf('inFlight', ['reject', 'wait'], 'reject') === 'wait',
    store: () =>
      reader.callback<(status: number) => boolean>('store') ?? ((status: number) => !NOT_FINAL.has(status)),
    onError: () => reader.oneOf('onError', ['deny', 'allow'], 'deny'),
    handler: () => reader.callback<NonNullable<IdempotencyOptions['handler']>>('handler'),
  }));
}

/** In lower case, as Node has the names of request headers. */
function headerOption(reader: OptionReader): string {
  const header = reader.string('header') ?? 'Idempotency-Key';
  try {
    validateHeaderName(header);
  } catch {
    throw reader.error('header', "it must be the name of a header, for example 'Idempotency-Key'");
  }
  return header.toLowerCase();
}

function methodsOption(reader: OptionReader): ReadonlySet<string> {
  const methods = reader.value('methods') ?? ['POST', 'PATCH'];
  const areMethods = Array.isArray(methods) && methods.length > 0 && methods.every(isMethod);
  if (areMethods) return new Set(methods.map((method: string) => method.toUpperCase()));
  throw reader.error('methods', "it must be an array of methods that is not empty, for example ['POST']");
}

function isMethod(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z-]+$/.test(value);
}
