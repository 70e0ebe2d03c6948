import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { corruptError, type RateLimitDeps } from './decision.ts';
import { type FixedWindowReply, fixedWindow } from './operations/fixed-window.ts';
import { checkedName } from './policy.ts';

/** The count of one client, in the form that express-rate-limit expects from a store. */
export interface ClientRateLimitInfo {
  totalHits: number;
  resetTime: Date | undefined;
}

/** The `Store` type of express-rate-limit 6 to 8, declared here so that the kit's types do not need that package. */
export interface ExpressRateLimitStore {
  /** False: all processes share the counters. */
  readonly localKeys: false;
  /** Unique per store: express-rate-limit reports two limiters of a request with the same prefix as a double count. */
  readonly prefix: string;
  /** Sets the window. express-rate-limit calls `init` with the options of `rateLimit()`. */
  init(options: { readonly windowMs: number }): void;
  get(key: string): Promise<ClientRateLimitInfo | undefined>;
  increment(key: string): Promise<ClientRateLimitInfo>;
  decrement(key: string): Promise<void>;
  resetKey(key: string): Promise<void>;
  /** Deletes all counters of the store. Visits every key of the server (SCAN): for administration, not in requests. */
  resetAll(): Promise<void>;
}

export interface ExpressRateLimitStoreOptions {
  /** Part of the Redis keys. Each store and limiter of a kit needs its own name. Default `express-rate-limit`. */
  readonly name?: string | undefined;
}

/** The default `windowMs` of express-rate-limit, used until `init` is called. */
const DEFAULT_WINDOW_MS = 60_000;

const MAX_WINDOW_MS = 2 ** 31 - 1;

/** Options of express-rate-limit, rate-limit-redis and rate-limiter-flexible, and what replaces them. */
const HINTS = {
  ...Object.fromEntries(
    ['windowMs', 'max', 'limit', 'points', 'keyGenerator', 'key'].map((name) => [
      name,
      'pass it to rateLimit() of express-rate-limit, next to `store`',
    ]),
  ),
  prefix: '`name` keeps two stores apart; createRedisKit({ prefix }) begins every key',
  keyPrefix: '`name` keeps two stores apart; createRedisKit({ prefix }) begins every key',
  resetExpiryOnChange: 'a hit does not prolong its window; leave it out',
};

export function makeExpressRateLimitStore(
  options: ExpressRateLimitStoreOptions,
  { engine, keys, reporter, failurePolicies }: RateLimitDeps,
  claimNames: (names: readonly string[]) => void,
): ExpressRateLimitStore {
  const reader = new OptionReader('kit.expressRateLimitStore', options, ['name'], HINTS);
  const name = checkedName(reader, reader.string('name') ?? 'express-rate-limit');
  claimNames([name]);
  failurePolicies.record('rate', 'error');
  let window = DEFAULT_WINDOW_MS;

  async function count(key: string, delta: number): Promise<FixedWindowReply> {
    const reply = await engine.run(fixedWindow, [keys.rate(key, name)], { delta, window });
    if (reply.found === 'corrupt') reporter.failure('rate', corruptError('a counter'));
    return reply;
  }

  return {
    localKeys: false,
    prefix: keys.rateStore(name),
    init({ windowMs }) {
      if (!Number.isInteger(windowMs) || windowMs < 1 || windowMs > MAX_WINDOW_MS) {
        throw new ConfigError(
          `kit.expressRateLimitStore: windowMs is ${String(windowMs)}; it must be a whole number from 1 to ${MAX_WINDOW_MS}`,
        );
      }
      window = windowMs;
    },
    async get(key) {
      const { hits, resetMs } = await count(key, 0);
      return resetMs === 0 ? undefined : infoOf(hits, resetMs);
    },
    async increment(key) {
      const { hits, resetMs } = await count(key, 1);
      return infoOf(hits, resetMs);
    },
    async decrement(key) {
      await count(key, -1);
    },
    async resetKey(key) {
      await engine.delete([keys.rate(key, name)]);
    },
    async resetAll() {
      for await (const page of engine.scan(keys.ratePattern(name))) {
        await Promise.all(page.map((key) => engine.delete([key])));
      }
    },
  };
}

function infoOf(totalHits: number, resetMs: number): ClientRateLimitInfo {
  return { totalHits, resetTime: new Date(Date.now() + resetMs) };
}
