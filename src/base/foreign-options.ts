/** Hints for options of packages that the kit replaces. A hint that a call has for the same option takes precedence. */
export const FOREIGN_OPTIONS: Readonly<Record<string, string>> = {
  ...hints(
    ['client', 'redis', 'redisClient', 'storeClient', 'sendCommand'],
    'the connection belongs in createRedisKit({ client })',
  ),
  ...hints(['prefix', 'keyPrefix'], 'use createRedisKit({ prefix }), or kit.namespace()'),
  ...hints(
    ['expire', 'expires', 'expiration'],
    'it is an option of caches; see `ttl` of kit.cache and kit.remember',
  ),
  ...hints(['duration', 'windowMs'], 'it is an option of rate limits; see `window` of kit.rateLimit'),
  ...hints(['max', 'points'], 'it is an option of rate limits; see `limit` of kit.rateLimit'),
  ...hints(['retryCount', 'retryDelay'], 'it is an option of locks; see `wait` of kit.lock'),
  store: 'the kit is the store; leave it out',
  serializer: 'the kit stores JSON; leave it out',
  disableTouch: 'it is an option of session stores; see `touchAfter` of kit.session and kit.sessionStore',
  disableTTL: 'every key of the kit expires; leave it out',
  resave: 'it is an option of sessions; kit.session saves only what has changed',
  ttl: 'it is an option of caches; see kit.cache and kit.remember',
  keyGenerator: 'it is an option of rate limits; see `key` of kit.rateLimit',
  key: 'this call has no key; leave it out',
};

/** Maps other names of the option `own` to the hint to use `own`. */
export function renamed(own: string, ...names: readonly string[]): Record<string, string> {
  return hints(names, `it is \`${own}\` here`);
}

function hints(names: readonly string[], hint: string): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, hint]));
}

/** Names under which other packages have an option for a lifetime. */
export const LIFETIME_NAMES = [
  'ttl',
  'expire',
  'expires',
  'expiration',
  'duration',
  'maxAge',
  'windowMs',
] as const;

/** Names under which other packages have an option for a maximum number. */
export const AMOUNT_NAMES = ['max', 'points', 'maxRequests', 'maxConcurrent'] as const;
