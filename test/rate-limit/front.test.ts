import express, { type Application, type RequestHandler } from 'express';
import { beforeEach, describe, expect, it } from 'vitest';
import { ConfigError, type RateLimitOptions } from '../../src/index.ts';
import { always, rawAnswer } from '../http/raw-answer.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { passTime, stopTime } from '../support/time.ts';
import { type Sent, send, serve } from '../support/web.ts';

const POLICY = { algorithm: 'sliding-window', limit: 1, window: '1h' } as const;

interface SiteOptions {
  readonly limit?: Partial<RateLimitOptions> | { readonly window: string };
  readonly above?: readonly RequestHandler[];
  /** Where the limiter is mounted. */
  readonly path?: string;
  readonly setUp?: (app: Application) => void;
}

/** A limiter with `front: true` that allows one request, and the requests that reached the app. */
async function frontSite({ above = [], path = '/', setUp = () => undefined, limit }: SiteOptions = {}) {
  const kit = kitForTest({ url: 'memory:' });
  const reached: string[] = [];
  const app = express();
  setUp(app);
  app.use((req, _res, next) => {
    reached.push(`${req.method} ${req.url}`);
    next();
  });
  if (above.length > 0) app.use(...above);
  app.use(
    path,
    kit.rateLimit({ ...POLICY, denyCache: { maxAge: '1h' }, front: true, ...limit } as RateLimitOptions),
  );
  app.use((_req, res) => void res.send('body'));
  const address = await serve(kit.front(app));
  const ask = (url = '/a', sent: Sent = {}) => send(`${address}${url}`, sent);
  return {
    address,
    reached,
    ask,
    refused: eventsOf(kit, 'rate:refused'),
    /** Uses up the quota, and lets the app refuse twice. */
    async learn(url?: string, sent?: Sent) {
      for (let times = 0; times < 3; times++) await ask(url, sent);
      reached.length = 0;
    },
  };
}

describe('the front of a limiter', () => {
  beforeEach(stopTime);

  it('a known refusal does not reach the app, once the app has refused twice', async () => {
    const { ask, learn, reached, refused } = await frontSite();
    await learn();
    const answer = await ask('/a?other=query');
    expect([answer.status, answer.headers['retry-after']]).toEqual([429, '3600']);
    expect(reached).toEqual([]);
    expect(refused).toHaveLength(3);
    expect(refused[2]).toEqual(refused[1]);
  });

  it.each<[string, readonly RequestHandler[]]>([
    ['the header of Express', []],
    ['a removed header', [always((res) => res.removeHeader('X-Powered-By'))]],
    [
      'several headers',
      [always((res) => void res.set({ 'X-Frame-Options': 'DENY', Link: ['</a>', '</b>'] }))],
    ],
  ])('a refusal of the front has the same bytes as one of the app, with %s', async (_what, above) => {
    const { ask, address, reached } = await frontSite({ above, limit: { headers: ['draft-10', 'legacy'] } });
    await ask();
    await ask();
    const byApp = await rawAnswer(address, '/a');
    expect(reached).toHaveLength(3);
    expect(await rawAnswer(address, '/a')).toBe(byApp);
    expect(reached).toHaveLength(3);
    expect(byApp).toMatch(/^HTTP\/1\.1 429 Too Many Requests\r\n/);
  });

  it.each<[string, string, Sent]>([
    ['a path on which the app has not refused', '/', {}],
    ['another path behind the limiter', '/api/b', {}],
    ['another method', '/api/a', { method: 'DELETE' }],
    ['another host', '/api/a', { headers: { Host: 'other.example' } }],
  ])('a request with %s reaches the app', async (_what, url, sent) => {
    const { ask, learn, reached } = await frontSite({ path: '/api' });
    await learn('/api/a');
    await ask(url, sent);
    expect(reached).toHaveLength(1);
  });

  it('the front finds the client by the trust proxy of the app', async () => {
    const { ask, learn, reached } = await frontSite({ setUp: (app) => void app.set('trust proxy', 1) });
    const from = (client: string): Sent => ({ headers: { 'X-Forwarded-For': client } });
    await learn('/a', from('203.0.113.1'));
    expect((await ask('/a', from('198.51.100.7, 203.0.113.1'))).status).toBe(429);
    expect(reached).toEqual([]);
    expect((await ask('/a', from('203.0.113.2'))).status).toBe(200);
    expect((await ask()).status).toBe(200);
    expect(reached).toHaveLength(2);
  });

  it('a client cannot choose its address if the app trusts no proxy', async () => {
    const { ask, learn, reached } = await frontSite();
    await learn();
    expect((await ask('/a', { headers: { 'X-Forwarded-For': '203.0.113.9' } })).status).toBe(429);
    expect(reached).toEqual([]);
  });

  it('a limiter whose app sets req.ip refuses by the app only', async () => {
    const own: RequestHandler = (req, _res, next) => {
      Object.defineProperty(req, 'ip', { value: '203.0.113.5' });
      next();
    };
    const { ask, learn, reached } = await frontSite({ above: [own] });
    await learn();
    expect((await ask()).status).toBe(429);
    expect(reached).toHaveLength(1);
  });

  it('a client is allowed again once its quota is back', async () => {
    const { ask, learn, reached } = await frontSite({ limit: { window: '500ms' } });
    await learn();
    expect((await ask()).status).toBe(429);
    expect(reached).toEqual([]);
    await passTime(500);
    expect((await ask()).status).toBe(200);
  });

  it('a head that varies is repeated for equal values of the request only', async () => {
    const cors: RequestHandler = (req, res, next) => {
      res.vary('Origin').set('Access-Control-Allow-Origin', req.headers.origin ?? 'null');
      next();
    };
    const { ask, learn, reached } = await frontSite({ above: [cors] });
    const from = (origin: string): Sent => ({ headers: { Origin: origin } });
    await learn('/a', from('https://one.example'));
    await ask('/a', from('https://one.example'));
    expect(reached).toEqual([]);
    const answer = await ask('/a', from('https://two.example'));
    expect(answer.headers['access-control-allow-origin']).toBe('https://two.example');
    expect(reached).toHaveLength(1);
  });

  it('refusals behind a limiter that sets RateLimit fields are made by the app', async () => {
    const fields = always((res) => void res.set('RateLimit', '"outer";r=1;t=1'));
    const { ask, learn, reached } = await frontSite({ above: [fields] });
    await learn();
    await ask();
    expect(reached).toHaveLength(1);
  });

  it('a limiter without the option refuses by the app only', async () => {
    const { ask, learn, reached } = await frontSite({ limit: { front: false } });
    await learn();
    await ask();
    expect(reached).toHaveLength(1);
  });

  it.each<[string, Partial<RateLimitOptions>, RegExp]>([
    ['key', { key: () => 'x' }, /`key` is a function/],
    ['skip', { skip: () => false }, /`skip` is called with a request/],
    ['handler', { handler: () => undefined }, /`handler` is called with a request/],
    ['a cost function', { cost: () => 1 }, /`cost` is called/],
    ['a limit function', { limit: () => 1, name: 'x' }, /`limit` is called/],
    ['wait', { wait: '1s' }, /`wait` lets a request wait/],
    ['shadow', { shadow: true }, /`shadow` refuses nothing/],
    ['no deny cache', { denyCache: false }, /`denyCache`, which is off/],
    ['onDenied', { onDenied: 'count' }, /`denyCache`, which is off/],
  ])('kit.rateLimit throws a ConfigError for front with %s', (_what, options, message) => {
    const kit = kitForTest({ url: 'memory:' });
    const call = () => kit.rateLimit({ ...POLICY, front: true, ...options } as RateLimitOptions);
    expect(call).toThrow(ConfigError);
    expect(call).toThrow(message);
  });
});
