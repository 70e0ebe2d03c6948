/**
 * Hints for options of packages that the kit replaces. A call that has the same setting under another name has a hint of
 * its own, which comes first.
 */
export const FOREIGN_OPTIONS: Readonly<Record<string, string>> = {
  client: 'the connection belongs in createRedisKit({ client })',
  redis: 'the connection belongs in createRedisKit({ client })',
  redisClient: 'the connection belongs in createRedisKit({ client })',
  storeClient: 'the connection belongs in createRedisKit({ client })',
  sendCommand: 'the connection belongs in createRedisKit({ client })',
  store: 'the kit is the store; leave it out',
  prefix: 'use createRedisKit({ prefix }), or kit.namespace()',
  keyPrefix: 'use createRedisKit({ prefix }), or kit.namespace()',
  serializer: 'the kit stores JSON; leave it out',
  disableTouch: 'it is an option of session stores; see `touchAfter` of kit.session and kit.sessionStore',
  disableTTL: 'every key of the kit expires; leave it out',
  resave: 'it is an option of sessions; kit.session saves only what has changed',
  ttl: 'it is an option of caches; see kit.cache and kit.remember',
  expire: 'it is an option of caches; see `ttl` of kit.cache and kit.remember',
  expires: 'it is an option of caches; see `ttl` of kit.cache and kit.remember',
  expiration: 'it is an option of caches; see `ttl` of kit.cache and kit.remember',
  duration: 'it is an option of rate limits; see `window` of kit.rateLimit',
  windowMs: 'it is an option of rate limits; see `window` of kit.rateLimit',
  max: 'it is an option of rate limits; see `limit` of kit.rateLimit',
  points: 'it is an option of rate limits; see `limit` of kit.rateLimit',
  keyGenerator: 'it is an option of rate limits; see `key` of kit.rateLimit',
  key: 'this call has no key; leave it out',
  retryCount: 'it is an option of locks; see `wait` of kit.lock',
  retryDelay: 'it is an option of locks; see `wait` of kit.lock',
};

/** The same hint for several foreign names: the option is called `own` here. */
export function renamed(own: string, ...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, `it is \`${own}\` here`]));
}

/** Names of other packages for a lifetime. */
export const LIFETIME_NAMES = [
  'ttl',
  'expire',
  'expires',
  'expiration',
  'duration',
  'maxAge',
  'windowMs',
] as const;

/** Names of other packages for a maximum number. */
export const AMOUNT_NAMES = ['max', 'points', 'maxRequests', 'maxConcurrent'] as const;
