import express, { type Application, type RequestHandler } from 'express';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  type CacheOptions,
  ConfigError,
  isRevalidation,
  type KitOptions,
  type RedisKit,
} from '../../src/index.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { keepingLogger } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { type Sent, send, serve } from '../support/web.ts';
import { APPS } from './frameworks.ts';
import { always, rawAnswer } from './raw-answer.ts';

interface SiteOptions {
  readonly above?: readonly RequestHandler[];
  readonly cache?: Partial<CacheOptions>;
  readonly handler?: RequestHandler;
  readonly makeApp?: () => Application;
  readonly kit?: KitOptions<null>;
}

/** A response with a cookie is not stored, so the first one has none. */
function cookieOnHits(): RequestHandler {
  let count = 0;
  return always((res) => {
    if (count++ > 0) res.cookie('theme', 'dark');
  });
}

/** A cache with `front: true`, and the requests that reached the app. */
async function frontSite({ above = [], cache, handler, makeApp = express, kit: options }: SiteOptions = {}) {
  const logger = keepingLogger();
  const kit: RedisKit = kitForTest({ url: 'memory:', logger, ...options } as KitOptions<null>);
  const reached: string[] = [];
  const app = makeApp();
  app.use((req, _res, next) => {
    // A refresh in the background comes from the kit itself.
    if (!isRevalidation(req)) reached.push(`${req.method} ${req.url}`);
    next();
  });
  for (const middleware of above) app.use(middleware);
  const cached = kit.cache({ ttl: '1h', front: true, ...cache });
  app.use(cached);
  app.use(handler ?? ((req, res) => void res.send(`body of ${req.url}`)));
  const address = await serve(kit.front(app));
  const ask = (path = '/a', sent: Sent = {}) => send(`${address}${path}`, sent);
  return {
    kit,
    address,
    reached,
    ask,
    hits: eventsOf(kit, 'cache:hit'),
    warnings: logger.lines,
    /** Stores a response, and lets the app answer with it twice. */
    async learn(path?: string, sent?: Sent) {
      for (let times = 0; times < 3; times++) await ask(path, sent);
      reached.length = 0;
    },
  };
}

describe('the front of a cache', () => {
  // The app must confirm an outer head once per second.
  beforeEach(stopTime);

  it.each(APPS)(
    'a hit does not reach the app on %s, once the app has answered twice with the response',
    async (_name, makeApp) => {
      const handler: RequestHandler = (_req, res) => void res.end('body');
      const { ask, reached, hits } = await frontSite({ makeApp: makeApp as () => Application, handler });
      for (let times = 0; times < 6; times++) expect((await ask()).text).toBe('body');
      expect(reached).toHaveLength(3);
      expect(hits).toHaveLength(5);
      expect(hits.at(-1)).toEqual({ url: '/a' });
    },
  );

  const HEADS: readonly (readonly [what: string, above: readonly RequestHandler[]])[] = [
    ['no header of others', [always((res) => res.removeHeader('X-Powered-By'))]],
    ['the header of Express', []],
    [
      'headers as helmet sets them',
      [
        (_req, res, next) => {
          res.removeHeader('X-Powered-By');
          res.setHeader('Content-Security-Policy', "default-src 'self'");
          res.setHeader('X-Frame-Options', 'SAMEORIGIN');
          next();
        },
      ],
    ],
    ['a header that the handler replaces', [always((res) => void res.setHeader('Content-Type', 'text/x'))]],
    ['several values of one header', [always((res) => void res.setHeader('Link', ['</a>', '</b>']))]],
    ['a Cache-Status of another cache', [always((res) => void res.setHeader('Cache-Status', 'outer; hit'))]],
  ];
  it.each(HEADS)(
    'a response of the front has the same bytes as one of the app, with %s',
    async (_what, above) => {
      const handler: RequestHandler = (_req, res) => void res.set('X-Own', 'é').json({ text: 'größe' });
      const { address, reached, ask } = await frontSite({ above, handler });
      await ask();
      await ask();
      const byApp = await rawAnswer(address, '/a');
      expect(reached).toHaveLength(3);
      const byFront = await rawAnswer(address, '/a');
      expect(reached).toHaveLength(3);
      expect(byFront).toBe(byApp);
      expect(byApp).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    },
  );

  it.each<[string, Sent]>([
    ['a HEAD', { method: 'HEAD' }],
    ['a POST', { method: 'POST' }],
    ['a condition', { headers: { 'If-None-Match': '"x"' } }],
    ['a Range', { headers: { Range: 'bytes=0-1' } }],
    ['a body', { headers: { 'Content-Length': '1' }, body: 'x' }],
    ['another host', { headers: { Host: 'other.example' } }],
    ['a scheme of a proxy', { headers: { 'X-Forwarded-Proto': 'https' } }],
    ['credentials', { headers: { Authorization: 'Basic eDp5' } }],
  ])('a request with %s reaches the app', async (_what, sent) => {
    const { ask, learn, reached } = await frontSite();
    await learn();
    await ask('/a', sent);
    expect(reached).toHaveLength(1);
  });

  it('a request reaches the app if the cache obeys its directives and they forbid the hit', async () => {
    const { ask, learn, reached } = await frontSite({ cache: { requestDirectives: 'honor' } });
    await learn();
    await ask('/a', { headers: { 'Cache-Control': 'max-age=5' } });
    expect(reached).toEqual([]);
    await ask('/a', { headers: { 'Cache-Control': 'no-cache' } });
    expect(reached).toHaveLength(1);
  });

  it('a response that varies is always sent by the app', async () => {
    const { ask, learn, reached } = await frontSite({
      handler: (_req, res) => void res.vary('X-Device').send('x'),
    });
    await learn();
    await ask();
    expect(reached).toHaveLength(1);
  });

  it.each<[string, Partial<CacheOptions>]>([
    ['headers', { key: { headers: ['x-tenant'] } }],
    ['cookies', { key: { cookies: ['tenant'] } }],
  ])('a response whose key contains %s is always sent by the app', async (_what, cache) => {
    const { ask, learn, reached } = await frontSite({ cache });
    await learn();
    await ask();
    expect(reached).toHaveLength(1);
  });

  it('a purge applies at once', async () => {
    const { kit, ask, learn, reached } = await frontSite();
    await learn();
    await kit.invalidate({ url: '/a' });
    const answer = await ask();
    expect([reached.length, answer.headers.age]).toEqual([1, undefined]);
    await learn();
    await kit.invalidate({ url: '/a', soft: true });
    await ask();
    expect(reached).toHaveLength(1);
  });

  it('a response reaches its client through the app once it is stale', async () => {
    const { ask, reached } = await frontSite({ cache: { ttl: '500ms', staleWhileRevalidate: '1h' } });
    for (let times = 0; times < 4; times++) await ask();
    expect(reached).toHaveLength(3);
    await passTime(600);
    await ask();
    expect(reached.length).toBeGreaterThan(3);
  });

  it('the app shows its head again once per second', async () => {
    let version = 'one';
    const above: RequestHandler = always((res) => void res.setHeader('X-Version', version));
    const { ask, learn, reached } = await frontSite({ above: [above] });
    await learn();
    version = 'two';
    expect((await ask()).headers['x-version']).toBe('one');
    await passTime(1_000);
    expect((await ask()).headers['x-version']).toBe('two');
    expect((await ask()).headers['x-version']).toBe('two');
    expect(reached).toHaveLength(2);
    expect((await ask()).headers['x-version']).toBe('two');
    expect(reached).toHaveLength(2);
  });

  it('a head that changes with each response is always sent by the app', async () => {
    let count = 0;
    const above: RequestHandler = always((res) => void res.setHeader('X-Nonce', String(count++)));
    const { ask, reached } = await frontSite({ above: [above] });
    for (let times = 0; times < 6; times++) await ask();
    expect(reached).toHaveLength(6);
  });

  const PER_REQUEST: readonly (readonly [what: string, above: RequestHandler, warning: RegExp])[] = [
    ['a request id', always((res) => void res.setHeader('X-Request-Id', 'same')), /sets X-Request-Id/],
    ['a cookie', cookieOnHits(), /sets Set-Cookie/],
    [
      'a wrapped method',
      (_req, res, next) => {
        const { writeHead } = res;
        res.writeHead = ((...args: Parameters<typeof writeHead>) =>
          writeHead.apply(res, args)) as typeof writeHead;
        next();
      },
      /replaces res\.writeHead/,
    ],
  ];
  it.each(PER_REQUEST)(
    'a response with %s of middleware above is always sent by the app, and one warning says why',
    async (_what, above, warning) => {
      const { ask, reached, warnings } = await frontSite({ above: [above] });
      for (let times = 0; times < 5; times++) await ask();
      expect(reached).toHaveLength(5);
      expect(warnings.filter((line) => warning.test(line))).toHaveLength(1);
    },
  );

  it('a cache without the option is always asked through the app', async () => {
    const { ask, reached } = await frontSite({ cache: { front: false } });
    for (let times = 0; times < 5; times++) await ask();
    expect(reached).toHaveLength(5);
  });

  it('a cache of a namespace is fronted by the kit', async () => {
    const kit = kitForTest({ url: 'memory:' });
    let runs = 0;
    const app = express().use((_req, _res, next) => {
      runs++;
      next();
    });
    app.use(kit.namespace('tenant').cache({ ttl: '1h', front: true }), (_req, res) => void res.send('x'));
    const address = await serve(kit.front(app));
    for (let times = 0; times < 5; times++) await send(address);
    expect(runs).toBe(3);
  });
});

describe('the options of a front', () => {
  const kit = () => kitForTest({ url: 'memory:' });

  it.each<[string, CacheOptions, RegExp]>([
    ['a key function', { key: () => 'x' }, /`front`.*`key` is a function/],
    ['a session key', { key: { session: () => 'x' } }, /`front`.*`key\.session` is a function/],
    ['skip', { skip: () => false }, /`front`.*`skip` is a function/],
    ['no local copies', { local: false }, /`front`.*`local: false`/],
  ])('kit.cache throws a ConfigError for front with %s', (_what, options, message) => {
    const call = () => kit().cache({ ttl: '1s', front: true, ...options });
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });

  it('kit.front throws a ConfigError for what is no app', () => {
    expect(() => Reflect.apply(kit().front, undefined, [{}])).toThrow(
      /kit\.front was given an object; give it the app/,
    );
  });
});
