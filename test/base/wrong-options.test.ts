import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { ConfigError, createRedisKit, type RedisKit } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';

type Call = (kit: RedisKit, options: never) => unknown;

/** Every call that takes options, with its required options. */
const CALLS: Readonly<Record<string, readonly [needed: object, call: Call]>> = {
  createRedisKit: [{ url: 'memory:' }, (_kit, options) => createRedisKit(options)],
  'kit.session': [{ secret: 'a secret of the test' }, (kit, options) => kit.session(options)],
  'kit.sessionStore': [{}, (kit, options) => kit.sessionStore(options)],
  'kit.rateLimit': [
    { algorithm: 'sliding-window', limit: 1, window: '1m', name: 'a' },
    (kit, options) => kit.rateLimit(options),
  ],
  'kit.limiter': [
    { algorithm: 'sliding-window', limit: 1, window: '1m', name: 'b' },
    (kit, options) => kit.limiter(options),
  ],
  'kit.expressRateLimitStore': [{}, (kit, options) => kit.expressRateLimitStore(options)],
  'kit.cache': [{ ttl: '1m' }, (kit, options) => kit.cache(options)],
  'kit.lock': [{ key: () => 'a' }, (kit, options) => kit.lock(options)],
  'kit.concurrency': [{ limit: 1 }, (kit, options) => kit.concurrency(options)],
  'kit.idempotency': [{}, (kit, options) => kit.idempotency(options)],
  'kit.state': [{ app: { ttl: '1h' } }, (kit, options) => kit.state(options)],
  'kit.documents': [{ ttl: '1h' }, (kit, options) => kit.documents('a', options)],
  'kit.members': [{ ttl: '1h' }, (kit, options) => kit.members('a', options)],
};

function problemsOf(name: string, options: object): readonly string[] {
  const [needed, call] = CALLS[name] ?? [{}, () => undefined];
  try {
    call(kitForTest({ url: 'memory:' }), { ...needed, ...options } as never);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { problems, message } = error as ConfigError;
    for (const problem of problems) expect(message).toContain(problem);
    return problems;
  }
  return [];
}

it.each(Object.keys(CALLS))(
  '%s rejects a promise of its options, whose `await` was forgotten',
  async (name) => {
    const [, call] = CALLS[name] ?? expect.unreachable();
    const options = Promise.reject(new Error('no configuration'));
    expect(() => call(kitForTest({ url: 'memory:' }), options as never)).toThrow(
      `${name}: options must be an object, got a promise`,
    );
  },
);

describe('an option of another package', () => {
  const foreign = ['ttl', 'max', 'expire', 'keyPrefix', 'points', 'windowMs', 'store', 'disableTouch', 'key'];
  const more = ['duration', 'client', 'resave', 'retryCount', 'prefix'];

  it.each(Object.keys(CALLS))('%s rejects option names of other packages with a hint for each', (name) => {
    const given = Object.fromEntries([...foreign, ...more].map((option) => [option, () => undefined]));
    const problems = problemsOf(name, given);
    const unknown = problems.filter((problem) => problem.includes('unknown option'));
    expect(unknown.length).toBeGreaterThan(8);
    expect(unknown.filter((problem) => /known options:|did you mean/.test(problem))).toEqual([]);
  });

  it.each([
    ['kit.rateLimit', 'windowMs', 'it is `window` here'],
    ['kit.rateLimit', 'points', 'it is `limit` here'],
    ['kit.limiter', 'duration', 'it is `window` here'],
    ['kit.limiter', 'key', 'limiter.consume(id)'],
    ['kit.session', 'ttl', 'it is `idle` here'],
    ['kit.session', 'disableTouch', '`touchAfter`'],
    ['kit.session', 'key', 'it is `name` here'],
    ['kit.sessionStore', 'disableTouch', '`touchAfter`'],
    ['kit.sessionStore', 'store', 'the kit is the store'],
    ['kit.cache', 'expire', 'it is `ttl` here'],
    ['kit.cache', 'keyPrefix', 'createRedisKit({ prefix })'],
    ['kit.lock', 'ttl', 'it is `lease` here'],
    ['kit.lock', 'retryCount', 'it is `wait` here'],
    ['kit.concurrency', 'max', 'it is `limit` here'],
    ['kit.idempotency', 'ttl', 'it is `retention` here'],
    ['kit.state', 'disableTouch', 'it is `touch` here'],
    ['kit.documents', 'expire', 'it is `ttl` here'],
    ['kit.members', 'maxAge', 'it is `ttl` here'],
    ['createRedisKit', 'keyPrefix', 'it is `prefix` here'],
    ['createRedisKit', 'points', 'see `limit` of kit.rateLimit'],
    ['kit.expressRateLimitStore', 'windowMs', 'rateLimit() of express-rate-limit'],
  ])('the error of %s for the option `%s` of another package names the remedy', (name, option, hint) => {
    const problems = problemsOf(name, { [option]: 1 });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(`${name}: unknown option \`${option}\`; `);
    expect(problems[0]).toContain(hint);
  });
});

describe('a call with several wrong options', () => {
  it.each([
    ['createRedisKit', { prefix: 'a b', commandTimeout: 0, logger: 1, keyPrefix: 'a', clock: {} }, 5],
    ['kit.session', { secret: 'short', name: 'a b', idle: 0, cookie: { path: 'x', secure: 1 }, ttl: 1 }, 6],
    ['kit.sessionStore', { idle: 0, touchAfter: -1, ttl: 1, compatible: 'redis' }, 4],
    [
      'kit.rateLimit',
      { limit: 0, window: 0, windowMs: 1, cost: -1, key: 'ip', headers: 'x', capacity: 1 },
      7,
    ],
    ['kit.rateLimit', { denyCache: { maxAge: 0, maxEntries: 0, ttl: 1 }, onError: 'fail' }, 4],
    ['kit.limiter', { limit: 1.5, window: 'soon', resolution: 0, name: 'a b', points: 1 }, 5],
    [
      'kit.cache',
      { ttl: 0, statuses: [206], vary: { maxVariants: 0, allow: 1 }, key: { host: 1, query: 1 } },
      6,
    ],
    ['kit.cache', { local: { maxAge: 0, maxBytes: 0 }, singleFlight: { lease: 0, wait: 0 }, max: 1 }, 5],
    ['kit.lock', { key: 'a', lease: 1, wait: -1, onError: 'fail', ttl: 1 }, 5],
    ['kit.concurrency', { limit: 0, lease: 1, maxQueue: 0, max: 1 }, 4],
    ['kit.state', { app: { ttl: 0 }, user: { ttl: -1 }, touch: 'x', maxBytes: 0, ttl: 1 }, 6],
    ['kit.documents', { ttl: 0, maxBytes: 0, expire: 1 }, 3],
    ['kit.idempotency', { header: 'a b', methods: [], lease: 1, maxBody: -1, key: 'a' }, 5],
  ])('%s names all wrong options in one error: %j', (name, options, count) => {
    const problems = problemsOf(name, options);
    expect(problems).toHaveLength(count);
    expect(new Set(problems).size).toBe(count);
  });

  it('kit.rateLimit reports the wrong options of all its policies', () => {
    const kit = kitForTest({ url: 'memory:' });
    const policies = [
      { algorithm: 'sliding-window', limit: 0, window: 0 },
      { algorithm: 'token-bucket', capacity: 0, refill: { tokens: 0, per: 0 }, max: 1 },
    ];
    const make = () => kit.rateLimit({ policies } as never);
    expect(make).toThrow('6 options are wrong:\n- kit.rateLimit({ policies: [0] }): option `limit` is 0');
    expect(make).toThrow('\n- kit.rateLimit({ policies: [1] }): option `refill`: option `per` is 0');
  });

  it('an option that depends on a wrong option is not reported as a second problem', () => {
    expect(problemsOf('kit.session', { idle: 0, absolute: '1m', touchAfter: '1s' })).toEqual([
      expect.stringContaining('`idle` is 0'),
    ]);
  });

  it('kit.remember reports all wrong options in one error', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const options = { ttl: 0, staleIfError: 0, local: { maxAge: 0 }, expire: 1 } as never;
    await expect(kit.remember('a', options, () => 1)).rejects.toThrow('4 options are wrong');
  });
});

describe('memory: with NODE_ENV=production', () => {
  const warningsOf = (environment: string, secret?: string) => {
    vi.stubEnv('NODE_ENV', environment);
    const logger = keepingLogger();
    const kit = createRedisKit({ url: 'memory:', logger });
    onTestFinished(() => kit.close());
    for (let times = 0; times < 2; times++) kit.session(secret === undefined ? {} : { secret });
    kit.namespace('tenant').rateLimit({ algorithm: 'sliding-window', limit: 1, window: '1m' });
    return logger.lines;
  };

  it('a kit on memory: warns once with NODE_ENV=production, also if it has a session secret', () => {
    expect(warningsOf('production', 'a secret of the test')).toEqual([
      expect.stringMatching(/'memory:' with NODE_ENV=production: .* `url` of a Redis/),
    ]);
    expect(warningsOf('production').filter((line) => line.includes('NODE_ENV'))).toHaveLength(1);
  });

  it.each(['test', 'development', ''])('a kit on memory: does not warn with NODE_ENV=%s', (environment) => {
    expect(warningsOf(environment, 'a secret of the test')).toEqual([]);
  });
});
