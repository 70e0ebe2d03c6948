import { ConfigError, StoreError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { RateLimitDeps } from './ask.ts';
import { type FixedWindowReply, fixedWindow } from './operations/fixed-window.ts';

/** What express-rate-limit knows of a client. */
export interface ClientRateLimitInfo {
  totalHits: number;
  resetTime: Date | undefined;
}

/** The Store of express-rate-limit, versions 6 to 8; spelled here so that its package is not needed for the types. */
export interface ExpressRateLimitStore {
  /** False: the counts are shared by all processes. */
  readonly localKeys: false;
  /** Different for each store: express-rate-limit takes two limiters with one prefix for a limiter that counts twice. */
  readonly prefix: string;
  /** express-rate-limit calls it with its options. */
  init(options: { readonly windowMs: number }): void;
  get(key: string): Promise<ClientRateLimitInfo | undefined>;
  increment(key: string): Promise<ClientRateLimitInfo>;
  decrement(key: string): Promise<void>;
  resetKey(key: string): Promise<void>;
  /** Visits every key of the server (SCAN): for administration, not for requests. */
  resetAll(): Promise<void>;
}

export interface ExpressRateLimitStoreOptions {
  /** Stands in the keys; two limiters of one kit need two. Default `express-rate-limit`. */
  readonly name?: string | undefined;
}

/** express-rate-limit's own default. */
const DEFAULT_WINDOW_MS = 60_000;

const MAX_WINDOW_MS = 2 ** 31 - 1;

/** What users of rate-limit-redis look for. */
const ELSEWHERE = {
  ...Object.fromEntries(
    ['windowMs', 'max', 'limit', 'points', 'keyGenerator', 'key'].map((name) => [
      name,
      'give it to rateLimit() of express-rate-limit, beside `store`',
    ]),
  ),
  prefix: '`name` keeps two stores apart; createRedisKit({ prefix }) begins every key',
  keyPrefix: '`name` keeps two stores apart; createRedisKit({ prefix }) begins every key',
  resetExpiryOnChange: 'a window ends when it began to; leave it out',
};

export function makeExpressRateLimitStore(
  options: ExpressRateLimitStoreOptions,
  { engine, keys, reporter }: RateLimitDeps,
  claimNames: (names: readonly string[]) => void,
): ExpressRateLimitStore {
  const reader = new OptionReader('kit.expressRateLimitStore', options, ['name'], ELSEWHERE);
  const name = reader.string('name') ?? 'express-rate-limit';
  if (!/^[\w.-]{1,64}$/.test(name))
    throw reader.error('name', `it may have up to 64 letters, digits, '.', '_' and '-'`);
  claimNames([name]);
  let window = DEFAULT_WINDOW_MS;

  async function count(key: string, delta: number): Promise<FixedWindowReply> {
    const reply = await engine.run(fixedWindow, [keys.rate(key, name)], { delta, window });
    if (reply.found === 'corrupt') {
      reporter.failure(
        'rate',
        new StoreError('ERR_REDIS_KIT_CORRUPT', 'a counter cannot be read and counts as absent'),
      );
    }
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
