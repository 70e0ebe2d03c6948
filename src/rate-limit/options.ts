import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError } from '../base/errors.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { collectItems, collectSettings, readSettings } from '../base/settings.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';
import { RATE_HEADERS, type RateHeaders } from '../http/rate-limit-fields.ts';
import type { RateLimitOnError } from './ask.ts';
import type { Decision } from './decision.ts';
import type { DenyCacheSettings } from './deny-cache.ts';
import {
  type MiddlewarePolicy,
  POLICY_ELSEWHERE,
  POLICY_OPTION_NAMES,
  type PolicySettings,
  refuse,
  resolvePolicy,
} from './policy.ts';

type KeyOf<Request extends IncomingMessage = Req> = (req: Request) => string | null | Promise<string | null>;

/** One policy, or several that are charged all or none. */
export type RateLimitOptions<Request extends IncomingMessage = Req> = (
  | MiddlewarePolicy<Request>
  | {
      /**
       * Decided together. Those without a `key` of their own, and those whose keys are equal, are one command that
       * charges all or none. Others are asked side by side; when one refuses, what the others granted is given back
       * at once, and until then, for about a round trip, it counts for whoever shares those keys.
       */
      readonly policies: readonly (MiddlewarePolicy<Request> & {
        readonly key?: KeyOf<Request> | undefined;
      })[];
    }
) & {
  /**
   * Whom a request counts for; null skips the limit. Default: the client's address, an IPv6 one by its /56. An
   * error is handed to `next`; undefined, an empty string or a value that is no string is one.
   */
  readonly key?: KeyOf<Request> | undefined;
  /** Units that a request costs; default 1, 0 takes nothing. */
  readonly cost?: number | ((req: Request) => number) | undefined;
  /** Requests that are not limited at all. */
  readonly skip?: ((req: Request) => boolean | Promise<boolean>) | undefined;
  /** How many bits of an IPv6 address name one client, 1 to 128, or false for all; default 56. */
  readonly ipv6Subnet?: number | false | undefined;
  /** Asked once when the response is over, also when its client is gone; true gives the units back. */
  readonly refundWhen?: ((req: Request, res: Res) => boolean | Promise<boolean>) | undefined;
  /** Whether a refused try counts as well, so that only a client that pauses gets through; default `'ignore'`. */
  readonly onDenied?: 'ignore' | 'count' | undefined;
  /**
   * What to do while Redis cannot be asked: let the stand-in of this process decide (`'memory'`, the default; with
   * n processes up to n times the limit passes), let everything pass (`'allow'`), or answer 503 (`'deny'`).
   */
  readonly onError?: RateLimitOnError | undefined;
  /**
   * Who is known to be refused is refused without asking Redis, for as long as the refusal holds and at most
   * `maxAge` (default `'1s'`). Within that time a refund or reset made in another process is not seen. Default
   * `maxEntries` 10,000; always off with `onDenied: 'count'`.
   */
  readonly denyCache?:
    | false
    | { readonly maxEntries?: number | undefined; readonly maxAge?: Duration | undefined }
    | undefined;
  /** Which response fields tell the quota; default `'draft-10'`. See `RateHeaders`. */
  readonly headers?: RateHeaders | false | readonly RateHeaders[] | undefined;
  /**
   * Takes over a refusal; default: 429 as problem+json. The rate headers are set, the status is not. The 503 of
   * `onError: 'deny'` is no refusal and does not come here.
   */
  readonly handler?: ((req: Request, res: Res, next: Next, decision: Decision) => void) | undefined;
  /** Decide and report (`req.rateLimit`, the event `rate:refused`), but never refuse and send no headers. */
  readonly shadow?: boolean | undefined;
};

export interface PolicyWithKey {
  readonly policy: PolicySettings;
  readonly key: KeyOf | undefined;
}

export interface RateLimitSettings {
  readonly policies: readonly PolicyWithKey[];
  readonly key: KeyOf | undefined;
  readonly cost: number | ((req: Req) => number);
  readonly skip: ((req: Req) => boolean | Promise<boolean>) | undefined;
  readonly ipv6Subnet: number | false;
  readonly refundWhen: RateLimitOptions['refundWhen'];
  readonly onDenied: 'ignore' | 'count';
  readonly onError: RateLimitOnError;
  readonly denyCache: DenyCacheSettings | undefined;
  readonly headers: readonly RateHeaders[];
  readonly handler: ((req: Req, res: Res, next: Next, decision: Decision) => void) | undefined;
  readonly shadow: boolean;
}

const NAMES = [
  'key',
  'cost',
  'skip',
  'ipv6Subnet',
  'refundWhen',
  'onDenied',
  'onError',
  'denyCache',
  'headers',
  'handler',
  'shadow',
] as const;

/** What users of express-rate-limit and rate-limiter-flexible look for. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ...POLICY_ELSEWHERE,
  keyGenerator: 'it is `key` here',
  message: 'answer with `handler`',
  statusCode: 'answer with `handler`',
  standardHeaders: 'it is `headers` here',
  legacyHeaders: "it is `headers: 'legacy'` here",
  store: 'the kit is the store; to keep express-rate-limit use kit.expressRateLimitStore()',
  skipFailedRequests: 'it is `refundWhen` here',
  skipSuccessfulRequests: 'it is `refundWhen` here',
  requestPropertyName: 'the decision is always `req.rateLimit`',
  passOnStoreError: "it is `onError: 'allow'` here",
  insuranceLimiter: 'it is `onError` here',
  inMemoryBlockOnConsumed: 'it is `denyCache` here',
  inMemoryBlockDuration: 'it is `denyCache` here',
};

const POLICY_NAMES = { known: [...POLICY_OPTION_NAMES, 'key'], elsewhere: POLICY_ELSEWHERE };

export function resolveRateLimitOptions(options: RateLimitOptions<never>): RateLimitSettings {
  checkNotMounted('kit.rateLimit', options);
  const known = [...POLICY_OPTION_NAMES, 'policies', ...NAMES];
  return readSettings('kit.rateLimit', options, { known, elsewhere: ELSEWHERE }, (reader) => ({
    policies: () => resolvePolicies(reader),
    key: () => reader.callback<KeyOf>('key'),
    cost: () => costOption(reader),
    skip: () => reader.callback<NonNullable<RateLimitOptions['skip']>>('skip'),
    ipv6Subnet: () => subnetOption(reader),
    refundWhen: () => reader.callback<NonNullable<RateLimitOptions['refundWhen']>>('refundWhen'),
    onDenied: () => onDeniedOption(reader),
    onError: () => reader.oneOf('onError', ['memory', 'allow', 'deny'], 'memory'),
    denyCache: () => denyCacheOption(reader),
    headers: () => headersOption(reader),
    handler: () => reader.callback<NonNullable<RateLimitOptions['handler']>>('handler'),
    shadow: () => reader.boolean('shadow', false),
  }));
}

function subnetOption(reader: OptionReader): number | false {
  if (reader.value('ipv6Subnet') === false) return false;
  return reader.integer('ipv6Subnet', { min: 1, max: 128 }) ?? 56;
}

function onDeniedOption(reader: OptionReader): 'ignore' | 'count' {
  return reader.oneOf('onDenied', ['ignore', 'count'], 'ignore');
}

function resolvePolicies(reader: OptionReader): readonly PolicyWithKey[] {
  if (!reader.has('policies')) return [{ policy: resolvePolicy(reader, true), key: undefined }];
  return collectSettings({
    policies: () => policyList(reader),
    otherOptions: () => refuse(reader, POLICY_OPTION_NAMES, 'beside `policies` it belongs into one of them'),
  }).policies;
}

function policyList(reader: OptionReader): readonly PolicyWithKey[] {
  const policies = reader.value('policies');
  if (!Array.isArray(policies) || policies.length === 0) {
    throw reader.error('policies', 'it must be an array of at least one policy');
  }
  return collectItems(
    policies.map((each, index) => () => {
      const where = `kit.rateLimit({ policies: [${index}] })`;
      return readSettings(where, each, POLICY_NAMES, (own) => ({
        policy: () => resolvePolicy(own, true),
        key: () => own.callback<KeyOf>('key'),
      }));
    }),
  );
}

function costOption(reader: OptionReader): RateLimitSettings['cost'] {
  if (typeof reader.value('cost') === 'function') return reader.callback<(req: Req) => number>('cost') ?? 1;
  return reader.integer('cost', { min: 0, max: 1_000_000_000 }) ?? 1;
}

function denyCacheOption(reader: OptionReader): DenyCacheSettings | undefined {
  const onDenied = onDeniedOption(reader);
  const value = reader.value('denyCache');
  if (onDenied === 'count' && value !== undefined && value !== false) {
    throw reader.error(
      'denyCache',
      `with \`onDenied: 'count'\` every try must reach Redis to be counted; leave it out`,
    );
  }
  if (onDenied === 'count' || value === false) return undefined;
  const names = { known: ['maxEntries', 'maxAge'] };
  return readSettings('kit.rateLimit({ denyCache })', value ?? {}, names, (own) => ({
    maxEntries: () => own.integer('maxEntries', { min: 1, max: 10_000_000 }) ?? 10_000,
    maxAgeMs: () => own.duration('maxAge', '1s'),
  }));
}

function headersOption(reader: OptionReader): readonly RateHeaders[] {
  const value = reader.value('headers') ?? 'draft-10';
  if (value === false) return [];
  const wanted: readonly unknown[] = Array.isArray(value) ? value : [value];
  return wanted.map((name) => {
    const known = RATE_HEADERS.find((each) => each === name);
    if (known !== undefined) return known;
    throw new ConfigError(
      `kit.rateLimit: option \`headers\` is ${describe(name)}; it must be false, or one or some of ${RATE_HEADERS.map(describe).join(', ')}`,
    );
  });
}
