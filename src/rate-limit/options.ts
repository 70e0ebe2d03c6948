import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import type { Duration } from '../base/duration.ts';
import { ConfigError } from '../base/errors.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { collectItems, collectSettings, readSettings } from '../base/settings.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import { checkNotMounted } from '../http/mount-check.ts';
import { RATE_HEADERS, type RateHeaders } from '../http/rate-limit-fields.ts';
import type { Decision, RateLimitOnError } from './decision.ts';
import type { LimiterSettings } from './limiter.ts';
import {
  type MiddlewarePolicy,
  POLICY_HINTS,
  POLICY_OPTION_NAMES,
  type PolicySettings,
  rejectOptions,
  resolvePolicy,
} from './policy.ts';
import { reserveOption } from './reserve-options.ts';
import { waitOptions } from './wait-options.ts';

type KeyOf<Request extends IncomingMessage = Req> = (req: Request) => string | null | Promise<string | null>;

/** The options of `kit.rateLimit`: those of one policy, or a list of `policies`, next to those of the middleware. */
export type RateLimitOptions<Request extends IncomingMessage = Req> = (
  | MiddlewarePolicy<Request>
  | {
      /**
       * A request is allowed when every policy allows it, and charges all of them or none. Policies that count the same
       * identity are decided by one command. Different identities are decided by parallel commands: when one refuses,
       * the units of the others are refunded at once, so these units count for about one round trip.
       */
      readonly policies: readonly (MiddlewarePolicy<Request> & {
        readonly key?: KeyOf<Request> | undefined;
      })[];
    }
) & {
  /**
   * Returns the identity that a request counts for, or null to skip the limit. Default: the client's address, with
   * IPv6 addresses grouped by `ipv6Subnet`. An error of the callback is passed to `next`, as is the error for a return
   * value other than null or a non-empty string.
   */
  readonly key?: KeyOf<Request> | undefined;
  /** The units that a request costs; default 1. A request with a cost of 0 uses no quota. */
  readonly cost?: number | ((req: Request) => number) | undefined;
  /** Returns true for a request that is neither counted nor refused. */
  readonly skip?: ((req: Request) => boolean | Promise<boolean>) | undefined;
  /** The length (1 to 128; default 56) of the prefix that groups IPv6 addresses as one client; false for no groups. */
  readonly ipv6Subnet?: number | false | undefined;
  /** Called once for an allowed request, when its response has ended or its client has gone; true refunds the cost. */
  readonly refundWhen?: ((req: Request, res: Res) => boolean | Promise<boolean>) | undefined;
  /** `'count'` charges refused requests too, so that only a client that pauses is allowed again. Default `'ignore'`. */
  readonly onDenied?: 'ignore' | 'count' | undefined;
  /**
   * The failure policy while Redis is unavailable: the in-process fallback decides (`'memory'`, the default; n
   * processes allow up to n times the limit), every request is allowed (`'allow'`), or every request gets a 503
   * (`'deny'`).
   */
  readonly onError?: RateLimitOnError | undefined;
  /**
   * Remembers refusals in this process, and repeats them without a command to Redis until the quota comes back, for at
   * most `maxAge` (default `'1s'`). During that time, a refund or reset in another process does not end a refusal.
   * Default `maxEntries` 10,000. Always off with `onDenied: 'count'`.
   */
  readonly denyCache?:
    | false
    | { readonly maxEntries?: number | undefined; readonly maxAge?: Duration | undefined }
    | undefined;
  /** The response fields that describe the quota (see `RateHeaders`); default `'draft-10'`, false for none. */
  readonly headers?: RateHeaders | false | readonly RateHeaders[] | undefined;
  /**
   * Answers a refused request; default: 429 as problem+json. The kit sets the rate headers before the call, but not the
   * status. Not called for the 503 of `onError: 'deny'`.
   */
  readonly handler?: ((req: Request, res: Res, next: Next, decision: Decision) => void) | undefined;
  /**
   * How long an identity is refused after a refusal, in all processes, whatever the quota; default: only until its
   * quota fits. A refusal during the block does not prolong it, and `limiter.reset(id)` ends it. Shadow mode blocks no
   * identity.
   */
  readonly block?: Duration | undefined;
  /**
   * Whether `kit.front` may repeat, before the app runs, a refusal that this process knows, for the method and the path
   * on which the app has refused before. Only for limiters that are keyed by the client's address: not with `key`,
   * `cost` or `limit` as a function, `skip`, `handler`, `wait` or `shadow`, and not without `denyCache`. Default false.
   */
  readonly front?: boolean | undefined;
  /**
   * How long a request waits for its units before it is refused; default 0: it is refused at once. Requests continue in
   * the order of their arrival, in all processes. When the client leaves, its units are refunded. All policies must
   * count the same identity.
   */
  readonly wait?: Duration | undefined;
  /** How many requests of one identity may wait in this process; further requests are refused at once. Default 100. */
  readonly maxQueue?: number | undefined;
  /**
   * Takes `units` units for this process in one command, and decides the requests of the next `hold` (default `'1s'`)
   * from them; for limits that very many requests share. Never allows more than the policy. A unit of a window comes back
   * up to `hold` later, the capacity of a bucket is lowered by its refill during `hold`, and a process that crashes keeps
   * one batch. All policies must count the same identity.
   */
  readonly reserve?: { readonly units: number; readonly hold?: Duration | undefined } | undefined;
  /** Sets `req.rateLimit` and emits `rate:refused`, but refuses and delays no request and sends no headers; default false. */
  readonly shadow?: boolean | undefined;
};

export interface PolicyWithKey {
  readonly policy: PolicySettings;
  readonly key: KeyOf | undefined;
}

export interface RateLimitSettings
  extends Omit<LimiterSettings, 'policies'>,
    Pick<RateLimitOptions, 'key' | 'skip' | 'refundWhen' | 'handler'> {
  readonly policies: readonly PolicyWithKey[];
  /** Whether all policies count the same identity with limits that are no functions, so that its group is known. */
  readonly hasOneGroup: boolean;
  readonly cost: number | ((req: Req) => number);
  readonly ipv6Subnet: number | false;
  readonly headers: readonly RateHeaders[];
  readonly shadow: boolean;
  readonly front: boolean;
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
  'block',
  'wait',
  'maxQueue',
  'reserve',
  'shadow',
  'front',
] as const;

/** Options of express-rate-limit and rate-limiter-flexible, and how to get their effect here. */
const HINTS: Readonly<Record<string, string>> = {
  ...POLICY_HINTS,
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
  blockDuration: 'it is `block` here',
  inMemoryBlockOnConsumed: 'it is `denyCache` here',
  inMemoryBlockDuration: 'it is `denyCache` here',
};

const POLICY_NAMES = { known: [...POLICY_OPTION_NAMES, 'key'], elsewhere: POLICY_HINTS };

export function resolveRateLimitOptions(options: RateLimitOptions<never>): RateLimitSettings {
  checkNotMounted('kit.rateLimit', options);
  const known = [...POLICY_OPTION_NAMES, 'policies', ...NAMES];
  const settings = readSettings('kit.rateLimit', options, { known, elsewhere: HINTS }, (reader) => ({
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
    block: () => blockOption(reader),
    wait: () => waitOptions(reader, () => resolvePolicies(reader)),
    reserve: () => reserveOption(reader, () => resolvePolicies(reader)),
    shadow: () => reader.boolean('shadow', false),
    front: () => frontOption(reader),
  }));
  const hasOneGroup = settings.policies.every(
    ({ policy, key }) => key === undefined && typeof policy.limit === 'number',
  );
  return { ...settings, hasOneGroup };
}

function frontOption(reader: OptionReader): boolean {
  if (!reader.boolean('front', false)) return false;
  const reason = whyNotAtFront(reader);
  if (reason === undefined) return true;
  throw reader.error('front', `${reason}; leave one of the two out`);
}

/** Why the front, which answers before the app runs, cannot repeat the refusals of a limiter. */
function whyNotAtFront(reader: OptionReader): string | undefined {
  const policies = resolvePolicies(reader);
  if (reader.has('key') || policies.some(({ key }) => key !== undefined)) {
    return 'the front knows only the address of a client, and `key` is a function of a request of the app';
  }
  for (const name of ['skip', 'handler']) {
    if (reader.has(name))
      return `\`${name}\` is called with a request of the app, which does not run at the front`;
  }
  if (typeof reader.value('cost') === 'function')
    return 'a function as `cost` is called with a request of the app';
  if (policies.some(({ policy }) => typeof policy.limit === 'function')) {
    return 'a function as `limit` is called with a request of the app';
  }
  if (reader.has('wait')) return 'the front answers at once, and `wait` lets a request wait for its units';
  if (reader.boolean('shadow', false)) return 'the front repeats refusals, and `shadow` refuses nothing';
  const isKnown = denyCacheOption(reader) !== undefined;
  return isKnown ? undefined : 'the front repeats the refusals in the `denyCache`, which is off';
}

function subnetOption(reader: OptionReader): number | false {
  if (reader.value('ipv6Subnet') === false) return false;
  return reader.integer('ipv6Subnet', { min: 1, max: 128 }) ?? 56;
}

function onDeniedOption(reader: OptionReader): LimiterSettings['onDenied'] {
  return reader.oneOf('onDenied', ['ignore', 'count'], 'ignore');
}

function resolvePolicies(reader: OptionReader): readonly PolicyWithKey[] {
  if (!reader.has('policies')) return [{ policy: resolvePolicy(reader, true), key: undefined }];
  return collectSettings({
    policies: () => policyList(reader),
    otherOptions: () =>
      rejectOptions(reader, POLICY_OPTION_NAMES, 'beside `policies`, it belongs in one of the policies'),
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

function denyCacheOption(reader: OptionReader): LimiterSettings['denyCache'] {
  const onDenied = onDeniedOption(reader);
  const value = reader.value('denyCache');
  if (onDenied === 'count' && value !== undefined && value !== false) {
    throw reader.error(
      'denyCache',
      `with \`onDenied: 'count'\` every refused request must reach Redis to be counted; leave it out`,
    );
  }
  if (onDenied === 'count' || value === false) return undefined;
  const names = { known: ['maxEntries', 'maxAge'] };
  return readSettings('kit.rateLimit({ denyCache })', value ?? {}, names, (own) => ({
    maxEntries: () => own.integer('maxEntries', { min: 1, max: 10_000_000 }) ?? 10_000,
    maxAgeMs: () => own.duration('maxAge', '1s'),
  }));
}

/** Shadow mode refuses no request, so it blocks no identity. */
function blockOption(reader: OptionReader): LimiterSettings['block'] {
  const block = reader.duration('block');
  return reader.boolean('shadow', false) ? undefined : block;
}

function headersOption(reader: OptionReader): readonly RateHeaders[] {
  const value = reader.value('headers') ?? 'draft-10';
  if (value === false) return [];
  const names: readonly unknown[] = Array.isArray(value) ? value : [value];
  return names.map((name) => {
    const known = RATE_HEADERS.find((each) => each === name);
    if (known !== undefined) return known;
    throw new ConfigError(
      `kit.rateLimit: option \`headers\` is ${describe(name)}; it must be false, or one or some of ${RATE_HEADERS.map(describe).join(', ')}`,
    );
  });
}
