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

/** The failure policy for a request with a key while Redis is unavailable: refuse it, or run it without a record. */
export type IdempotencyOnError = 'deny' | 'allow';

export interface IdempotencyOptions<Request extends IncomingMessage = Req> {
  /** The request header that contains the key; default `Idempotency-Key`. */
  readonly header?: string | undefined;
  /** Whether requests without the header are refused with 400; default false: they run without idempotency. */
  readonly required?: boolean | undefined;
  /** The request methods whose keys are used; default POST and PATCH. RFC 9110 defines most others as idempotent. */
  readonly methods?: readonly string[] | undefined;
  /**
   * The scope of the key: equal keys in two scopes are different keys. Default: `req.session.userId`, else the
   * Authorization header, else the session id that the client sent, else, with a warning, the client's address. Set
   * this option when credentials change from request to request: a retry with a new token would have a new scope.
   */
  readonly scope?: ((req: Request) => string | Promise<string>) | undefined;
  /** Returns what a request and its retry have in common; only its hash is stored. Default: method, URL and body. */
  readonly fingerprint?: ((req: Request) => string | Uint8Array | Promise<string | Uint8Array>) | undefined;
  /** The lease is renewed while the request runs; after a crash, a retry runs once it has ended. Default `'30s'`. */
  readonly lease?: Duration | undefined;
  /** How long the lease is renewed if a handler does not end its response; then a retry can run. Default `'5m'`. */
  readonly maxRun?: Duration | undefined;
  /** How long a response stays recorded; then a request with the same key runs again. Default `'24h'`. */
  readonly retention?: Duration | undefined;
  /** The most bytes of a recorded body. The retries of a larger response are refused with 409. Default 1 MiB. */
  readonly maxBody?: number | undefined;
  /**
   * Whether to record a response that the handler ended after the client had disconnected. `'detect'` (the default):
   * unless the handler may have noticed the disconnect and cut the response short. `'keep'`: always, for handlers that
   * finish their work in any case. `'drop'`: never. A retry of a request without a recorded response runs again.
   */
  readonly onDisconnect?: OnDisconnect | undefined;
  /** While the first request is in flight, a retry gets 409 (`'reject'`, default) or awaits the response (`'wait'`). */
  readonly inFlight?: 'reject' | 'wait' | undefined;
  /**
   * Whether a response with this status is final and is recorded. A retry of a request without a final response runs
   * again. Default: all but 401, 403, 408, 409, 425, 429, 502, 503 and 504.
   */
  readonly store?: ((status: number) => boolean) | undefined;
  /** If Redis is unavailable before the request runs, `'deny'` (default) sends 503; `'allow'` runs it unrecorded. */
  readonly onError?: IdempotencyOnError | undefined;
  /** Responds to a refusal; default: the status as `application/problem+json`. The 503 of `onError` is no refusal. */
  readonly handler?: ((req: Request, res: Res, next: Next, refusal: IdempotencyRefusal) => void) | undefined;
}

export interface IdempotencySettings extends Pick<IdempotencyOptions, 'scope' | 'fingerprint' | 'handler'> {
  readonly header: string;
  readonly required: boolean;
  readonly methods: ReadonlySet<string>;
  readonly lease: number;
  readonly maxRun: number;
  readonly retention: number;
  readonly maxBody: number;
  readonly onDisconnect: OnDisconnect;
  /** Whether a retry waits while the first request is in flight. */
  readonly waits: boolean;
  readonly store: (status: number) => boolean;
  readonly onError: IdempotencyOnError;
}

const NAMES = [
  ...['header', 'required', 'methods', 'scope', 'fingerprint', 'lease', 'maxRun', 'retention', 'maxBody'],
  ...['onDisconnect', 'inFlight', 'store', 'onError', 'handler'],
] as const;

const KEY_HINT =
  'the client sends the key in the header that `header` names; `scope` says which client it belongs to';

/** Options of other idempotency packages, with the hints that error messages give for them. */
const ELSEWHERE = {
  ...renamed('retention', ...LIFETIME_NAMES),
  ...renamed('header', 'headerName', 'headerKey', 'keyHeader', 'idempotencyKeyHeader'),
  key: KEY_HINT,
  keyGenerator: KEY_HINT,
};

const MEBIBYTE = 2 ** 20;

/** The highest `maxBody`: half of 512 MiB, the limit of a Redis string. */
const MOST_BODY = 256 * MEBIBYTE;

/** Statuses that are not final: the request was refused, or its outcome is unknown. A retry may succeed. */
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

/** The name of the header in lower case, as in `req.headers`. */
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
