/**
 * Options of packages that the kit replaces, and where the kit has the same thing. A call that has the thing itself
 * gives its own name for it; these are for all others.
 */
export const FOREIGN_OPTIONS: Readonly<Record<string, string>> = {
  client: 'the connection belongs into createRedisKit({ client })',
  redis: 'the connection belongs into createRedisKit({ client })',
  redisClient: 'the connection belongs into createRedisKit({ client })',
  storeClient: 'the connection belongs into createRedisKit({ client })',
  sendCommand: 'the connection belongs into createRedisKit({ client })',
  store: 'the kit is the store; leave it out',
  prefix: 'createRedisKit({ prefix }) begins every key, and kit.namespace() adds to that',
  keyPrefix: 'createRedisKit({ prefix }) begins every key, and kit.namespace() adds to that',
  serializer: 'the kit stores JSON; leave it out',
  disableTouch: 'it is of session stores; see `touchAfter` of kit.session and kit.sessionStore',
  disableTTL: 'every key of the kit has a lifetime; leave it out',
  resave: 'it is of sessions; kit.session saves only what has changed',
  ttl: 'it is of caches; see kit.cache and kit.remember',
  expire: 'it is of caches; see `ttl` of kit.cache and kit.remember',
  expires: 'it is of caches; see `ttl` of kit.cache and kit.remember',
  expiration: 'it is of caches; see `ttl` of kit.cache and kit.remember',
  duration: 'it is of rate limits; see `window` of kit.rateLimit',
  windowMs: 'it is of rate limits; see `window` of kit.rateLimit',
  max: 'it is of rate limits; see `limit` of kit.rateLimit',
  points: 'it is of rate limits; see `limit` of kit.rateLimit',
  keyGenerator: 'it is of rate limits; see `key` of kit.rateLimit',
  key: 'there is nothing to tell apart here; leave it out',
  retryCount: 'it is of locks; see `wait` of kit.lock',
  retryDelay: 'it is of locks; see `wait` of kit.lock',
};

/** Hints for several foreign names of one thing, which the call has as the option `own`. */
export function renamed(own: string, ...names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, `it is \`${own}\` here`]));
}

/** What other packages call a span of time after which something ends. */
export const LIFETIME_NAMES = [
  'ttl',
  'expire',
  'expires',
  'expiration',
  'duration',
  'maxAge',
  'windowMs',
] as const;

/** What other packages call the largest allowed number. */
export const AMOUNT_NAMES = ['max', 'points', 'maxRequests', 'maxConcurrent'] as const;
