import { once } from 'node:events';
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import express, { type RequestHandler, type Response } from 'express';
import { beforeAll, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { type Sent, send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

/** Less than the longest time for which requests wait for a fill that is not ended. */
const BELOW_LONGEST_FILL_MS = 30_000;

/** A handler whose response waits until the test releases it. */
class Held {
  runs = 0;
  #waiting: (() => void)[] = [];
  readonly #end: RequestHandler;

  constructor(end: RequestHandler) {
    this.#end = end;
  }

  readonly handler: RequestHandler = async (req, res, next) => {
    this.runs++;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    await this.#end(req, res, next);
  };

  letGo(): void {
    for (const go of this.#waiting.splice(0)) go();
  }

  get isRunning(): number {
    return this.#waiting.length;
  }
}

describeOnBothEngines('many requests for a missing response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(end: RequestHandler, options: Partial<CacheOptions> = {}) {
    const kit = kitForTest({ url: url() });
    const held = new Held(end);
    const app = express();
    app.set('env', 'test');
    app.get('/{*path}', kit.cache({ ttl: '1m', ...options }), held.handler);
    const address = await serve(app);
    const ask = (count: number, path = '/', sent?: Sent) =>
      Array.from({ length: count }, () => send(`${address}${path}`, sent));
    const arrived = (count: number) => until(`${count} handlers run`, () => held.isRunning === count);
    return { kit, held, address, ask, arrived };
  }

  it('concurrent requests get the response of one run of the handler', async () => {
    const { kit, held, ask, arrived } = await start((_req, res) => void res.send('body'));
    const [hits, collapsed] = [eventsOf(kit, 'cache:hit'), eventsOf(kit, 'cache:collapsed')];
    const answers = ask(20);
    await arrived(1);
    await pause(50);
    held.letGo();
    const all = await Promise.all(answers);
    expect(all.map(({ text }) => text)).toEqual(Array(20).fill('body'));
    expect(held.runs).toBe(1);
    expect(all.filter(({ headers }) => String(headers['cache-status']).includes('collapsed'))).toHaveLength(
      collapsed.length,
    );
    expect(collapsed.length + hits.length).toBe(19);
    expect((await ask(1)[0])?.headers['cache-status']).toContain('; hit');
  });

  it('concurrent requests do not wait for each other after a response that cannot be stored', async () => {
    const { kit, held, ask, arrived } = await start(
      (_req, res) => void res.set('Cache-Control', 'private').send('x'),
    );
    const first = ask(1);
    await arrived(1);
    const others = ask(99);
    await pause(100);
    held.letGo();
    await Promise.all(first);
    await arrived(99);
    held.letGo();
    await Promise.all(others);
    // While the hit-for-miss marker lasts no request waits at all.
    const later = ask(100);
    await arrived(100);
    held.letGo();
    await Promise.all(later);
    expect(eventsOf(kit, 'cache:collapsed')).toEqual([]);
    expect(held.runs).toBe(200);
  });

  it('concurrent requests get the stored response after the response to a request with Authorization', async () => {
    const { kit, held, ask, arrived } = await start((_req, res) => void res.send('body'), { local: false });
    const [stored, skipped] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')];
    const [first] = ask(1);
    await arrived(1);
    held.letGo();
    await first;
    await until('it is stored', () => stored.length === 1);
    const [other] = ask(1, '/', { headers: { Authorization: 'Basic eDp5' } });
    await arrived(1);
    held.letGo();
    await other;
    expect(skipped.map(({ reason }) => reason)).toEqual(['authorization']);
    await Promise.all(ask(20));
    expect(held.runs).toBe(2);
  });

  it('a response to a request with Authorization does not prevent later requests from sharing one run of the handler', async () => {
    const { held, ask, arrived } = await start((_req, res) => void res.send('body'), {
      singleFlight: { wait: '1h' },
    });
    const [alone] = ask(1, '/', { headers: { Authorization: 'Basic eDp5' } });
    await arrived(1);
    held.letGo();
    await alone;
    const answers = ask(10);
    await arrived(1);
    await pause(50);
    held.letGo();
    await Promise.all(answers);
    expect(held.runs).toBe(2);
  });

  it('concurrent requests run the handler once for each variant', async () => {
    const { held, ask, arrived } = await start((req, res) => {
      res.vary('Accept-Language');
      res.send(String(req.headers['accept-language']));
    });
    const language = (name: string) => ({ headers: { 'Accept-Language': name } });
    const english = ask(5, '/', language('en'));
    await arrived(1);
    const german = ask(10, '/', language('de'));
    await pause(100);
    held.letGo();
    await Promise.all(english);
    await arrived(1);
    await pause(100);
    held.letGo();
    expect((await Promise.all(german)).map(({ text }) => text)).toEqual(Array(10).fill('de'));
    expect(held.runs).toBe(2);
  });

  it('a follower becomes the leader when the handler of the leader destroys its response', async () => {
    const { held, address, ask, arrived } = await start((req, res) => {
      if (req.headers['x-doomed'] !== undefined) return void res.destroy();
      res.send('body');
    });
    const doomed = request(address, { agent: false, headers: { 'X-Doomed': '1' } });
    const gone = once(doomed, 'error');
    doomed.end();
    await arrived(1);
    const others = ask(5);
    await pause(100);
    held.letGo();
    await gone;
    await arrived(1);
    held.letGo();
    expect((await Promise.all(others)).map(({ text }) => text)).toEqual(Array(5).fill('body'));
    expect(held.runs).toBe(2);
  });

  it('no request waits for a follower whose response another middleware has ended', async () => {
    const kit = kitForTest({ url: url() });
    const held = new Held((_req, res) => void (held.runs === 1 ? res.destroy() : res.send('body')));
    const app = express();
    const arrived: Response[] = [];
    app.use((_req, res, next) => {
      arrived.push(res);
      next();
    });
    // Longer than any test lasts, so that a request that waits makes the test time out.
    app.use(kit.cache({ ttl: '1m', singleFlight: { wait: '1h' } }), held.handler);
    const address = await serve(app);
    const first = send(address).catch(() => undefined);
    await until('the leader runs', () => held.isRunning === 1);
    const second = send(address);
    await until('the follower has arrived', () => arrived.length === 2);
    arrived[1]?.status(503).end('timeout');
    expect((await second).text).toBe('timeout');
    const third = send(address);
    await until('the third request has arrived', () => arrived.length === 3);
    held.letGo();
    await first;
    await until('the third request runs', () => held.isRunning === 1, BELOW_LONGEST_FILL_MS);
    held.letGo();
    expect((await third).text).toBe('body');
    expect(held.runs).toBe(2);
  });

  it('each request runs the handler if the middleware above the cache has begun the response', async () => {
    const kit = kitForTest({ url: url() });
    const app = express();
    app.use((_req, res, next) => {
      res.write('begun, ');
      next();
    });
    const held = new Held((_req, res) => void res.end('ended'));
    app.use(kit.cache({ ttl: '1m', singleFlight: { wait: '1h' } }), held.handler);
    const address = await serve(app);
    const answers = [send(address), send(address)];
    await until('both handlers run', () => held.isRunning === 2, BELOW_LONGEST_FILL_MS);
    held.letGo();
    expect((await Promise.all(answers)).map(({ text }) => text)).toEqual(Array(2).fill('begun, ended'));
  });

  it('a complete response is stored although its client has disconnected', async () => {
    const { kit, held, address, ask, arrived } = await start((_req, res) => void res.send('body'));
    const stored = eventsOf(kit, 'cache:stored');
    const client = request(address, { agent: false });
    client.on('error', () => undefined).end();
    await arrived(1);
    client.destroy();
    await pause(100);
    held.letGo();
    await until('it is stored', () => stored.length === 1);
    expect((await ask(1)[0])?.text).toBe('body');
    expect(held.runs).toBe(1);
  });

  it('a follower runs its own handler after the time `wait`', async () => {
    const { held, ask, arrived } = await start((_req, res) => void res.send('body'), {
      singleFlight: { wait: '200ms' },
    });
    const answers = ask(5);
    await arrived(5);
    held.letGo();
    await Promise.all(answers);
    expect(held.runs).toBe(5);
  });

  it('the cache refuses a `wait` that is longer than a timer of Node.js can run', () => {
    const kit = kitForTest({ url: 'memory:' });
    const options = { ttl: '1m', singleFlight: { wait: '25d' } } as const;
    expect(() => kit.cache(options)).toThrow('at most 24 days');
  });

  it('with `singleFlight: false`, each concurrent request runs its own handler', async () => {
    const { held, ask, arrived } = await start((_req, res) => void res.send('body'), { singleFlight: false });
    const answers = ask(5);
    await arrived(5);
    held.letGo();
    await Promise.all(answers);
  });

  it('a request after a purge does not follow a flight from before the purge', async () => {
    let version = 1;
    const { kit, held, ask, arrived } = await start((_req, res) => void res.send(`version ${made}`));
    let made = 0;
    const early = ask(1);
    await arrived(1);
    made = version;
    version = 2;
    await kit.invalidate({ url: '/' });
    const late = ask(5);
    await pause(100);
    held.letGo();
    expect((await Promise.all(early)).map(({ text }) => text)).toEqual(['version 1']);
    made = version;
    await arrived(1);
    held.letGo();
    expect((await Promise.all(late)).map(({ text }) => text)).toEqual(Array(5).fill('version 2'));
    expect((await ask(1)[0])?.text).toBe('version 2');
    expect(held.runs).toBe(2);
  });
});
