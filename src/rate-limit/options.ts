import type { IncomingMessage } from 'node:http';
import { OptionReader } from '../base/check.ts';
import type { Next, Req, Res } from '../http/middleware.ts';
import type { Decision } from './decision.ts';
import type { RateLimitOnError } from './limiter.ts';
import { POLICY_OPTION_NAMES, type Policy, type PolicySettings, resolvePolicy } from './policy.ts';

export type RateLimitOptions = Policy & {
  /**
   * Whom a request counts for; null skips the limit. Default: the client's address, an IPv6 one by its /56. An
   * error is handed to `next`; undefined or a value that is no string is one.
   */
  readonly key?: ((req: Req) => string | null | Promise<string | null>) | undefined;
  /** Units that a request costs; default 1, 0 takes nothing. */
  readonly cost?: number | ((req: Req) => number) | undefined;
  /** Requests that are not limited at all. */
  readonly skip?: ((req: Req) => boolean | Promise<boolean>) | undefined;
  /** How many bits of an IPv6 address name one client, 1 to 128, or false for all; default 56. */
  readonly ipv6Subnet?: number | false | undefined;
  /**
   * What to do while Redis cannot be asked: let the stand-in of this process decide (`'memory'`, the default; with
   * n processes up to n times the limit passes), let everything pass (`'allow'`), or answer 503 (`'deny'`).
   */
  readonly onError?: RateLimitOnError | undefined;
  /** RateLimit and RateLimit-Policy as in draft-ietf-httpapi-ratelimit-headers-10, or none; default `'draft-10'`. */
  readonly headers?: 'draft-10' | false | undefined;
  /** Takes over a refusal; default: 429 as problem+json. Status and headers are not set yet. */
  readonly handler?: ((req: Req, res: Res, next: Next, decision: Decision) => void) | undefined;
};

export interface RateLimitSettings {
  readonly policy: PolicySettings;
  readonly key: ((req: Req) => string | null | Promise<string | null>) | undefined;
  readonly cost: (req: Req) => number;
  readonly skip: ((req: Req) => boolean | Promise<boolean>) | undefined;
  readonly ipv6Subnet: number | false;
  readonly onError: RateLimitOnError;
  readonly headers: 'draft-10' | false;
  readonly handler: ((req: Req, res: Res, next: Next, decision: Decision) => void) | undefined;
}

const NAMES = [
  ...POLICY_OPTION_NAMES,
  'key',
  'cost',
  'skip',
  'ipv6Subnet',
  'onError',
  'headers',
  'handler',
] as const;

export function resolveRateLimitOptions(options: RateLimitOptions): RateLimitSettings {
  const reader = new OptionReader('kit.rateLimit', options, NAMES);
  const cost = typeof options.cost === 'function' ? options.cost : constantCost(reader);
  return Object.freeze({
    policy: resolvePolicy(reader),
    key: reader.callback<NonNullable<RateLimitOptions['key']>>('key'),
    cost,
    skip: reader.callback<NonNullable<RateLimitOptions['skip']>>('skip'),
    ipv6Subnet:
      reader.value('ipv6Subnet') === false
        ? (false as const)
        : (reader.integer('ipv6Subnet', { min: 1, max: 128 }) ?? 56),
    onError: reader.oneOf('onError', ['memory', 'allow', 'deny'], 'memory'),
    headers: reader.oneOf('headers', ['draft-10', false], 'draft-10'),
    handler: reader.callback<NonNullable<RateLimitOptions['handler']>>('handler'),
  });
}

function constantCost(reader: OptionReader): (req: IncomingMessage) => number {
  const cost = reader.integer('cost', { min: 0, max: 1_000_000_000 }) ?? 1;
  return () => cost;
}
