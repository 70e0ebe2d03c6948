import type { RequestHandler } from 'express';
import { beforeAll, expect, it } from 'vitest';
import { describeBySeconds } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';
import { lastStatus, says, site } from './site.ts';

const control = (value: string): RequestHandler => says({ 'Cache-Control': value });

describeBySeconds('RFC 9111, section 5.2.1: the directives of a request', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  const honoring = { requestDirectives: 'honor' } as const;

  const DIRECTIVES = [
    ...['no-cache', 'no-store', 'max-age=0', 'max-age=1', 'min-fresh=9999', 'max-stale=0', 'only-if-cached'],
    ...['no-transform', 'no-cache, no-store, max-age=0'],
  ];

  it.each(DIRECTIVES)('by default, a request with %s gets the stored response', async (directive) => {
    const { ask, pass, runs } = await site(url(), {}, control('max-age=60'));
    const headers = { 'Cache-Control': directive, Pragma: 'no-cache' };
    await ask('/a', headers);
    await pass(5_000);
    expect((await ask('/a', headers)).headers.age).toBe('5');
    expect((await ask('/a', headers, 'HEAD')).headers.age).toBe('5');
    expect(runs()).toBe(1);
  });

  it('by default, a request with only-if-cached runs the handler', async () => {
    const { ask } = await site(url(), {}, control('max-age=60'));
    expect((await ask('/a', { 'Cache-Control': 'only-if-cached' })).status).toBe(200);
  });

  it('RFC 9111, section 5.2.1.4: a request with no-cache runs the handler, whose response is stored', async () => {
    const { ask, runs } = await site(url(), honoring, (_req, res) => {
      res.setHeader('Cache-Control', 'max-age=60');
      res.end(`body ${runs()}`);
    });
    await ask();
    const forced = await ask('/a', { 'Cache-Control': 'No-Cache' });
    expect([forced.text, lastStatus(forced)]).toEqual(['body 2', 'redis-kit; fwd=request']);
    expect((await ask()).text).toBe('body 2');
    await ask('/a', { 'Cache-Control': 'no-cache' }, 'HEAD');
    expect(runs(), 'and so does a HEAD').toBe(3);
  });

  it('RFC 9111, section 5.2.1.5: the response to a request with no-store is not stored', async () => {
    const { ask, runs } = await site(url(), honoring, control('max-age=60'));
    await ask('/a', { 'Cache-Control': 'no-store' });
    await ask('/a', { 'Cache-Control': 'no-store' });
    expect(runs()).toBe(2);
    await ask();
    expect((await ask()).headers.age).toBeDefined();
    expect(lastStatus(await ask('/a', { 'Cache-Control': 'no-store' }))).toBe('redis-kit; fwd=request');
    expect(runs()).toBe(4);
  });

  it('RFC 9111, section 5.2.1.1: a request with max-age gets no older response', async () => {
    const { ask, pass, runs } = await site(url(), honoring, control('max-age=60'));
    await ask();
    await pass(20_000);
    expect((await ask('/a', { 'Cache-Control': 'max-age=30' })).headers.age).toBe('20');
    expect((await ask('/a', { 'Cache-Control': 'max-age=19' })).headers.age).toBeUndefined();
    expect((await ask()).headers.age, 'and what was made for it is stored').toBe('0');
    expect(runs()).toBe(2);
  });

  /** A site whose response has been stale for 10 s, and the Age that a request with certain directives gets. */
  async function staleSite() {
    const options = { ...honoring, singleFlight: false } as const;
    const { ask, pass, runs } = await site(url(), options, control('max-age=10, stale-while-revalidate=100'));
    await ask();
    await pass(20_000);
    const age = async (directives: string) => (await ask('/a', { 'Cache-Control': directives })).headers.age;
    return { age, pass, runs };
  }

  it('RFC 9111, sections 5.2.1.1 and 5.2.1.2: a request with max-age gets no stale response unless it also has max-stale', async () => {
    const { age, pass, runs } = await staleSite();
    expect(await age('max-age=50')).toBeUndefined();
    expect(runs()).toBe(2);
    await pass(20_000);
    expect(await age('max-age=50, max-stale')).toBe('20');
    await until('it is refreshed', () => runs() === 3);
  });

  it('RFC 9111, section 5.2.1.2: a request with max-stale gets a response that has been stale for at most that time', async () => {
    const { age, pass, runs } = await staleSite();
    expect(await age('max-stale=5')).toBeUndefined();
    expect(runs()).toBe(2);
    await pass(20_000);
    expect(await age('max-stale=15')).toBe('20');
  });

  it('RFC 9111, section 5.2.1.3: a request with min-fresh gets a response that stays fresh for at least that time', async () => {
    const { ask, pass, runs } = await site(url(), honoring, control('max-age=60'));
    await ask();
    await pass(30_000);
    expect((await ask('/a', { 'Cache-Control': 'min-fresh=25' })).headers.age).toBe('30');
    expect((await ask('/a', { 'Cache-Control': 'min-fresh=31' })).headers.age).toBeUndefined();
    expect(runs()).toBe(2);
  });

  it('RFC 9111, section 5.2.1.7: a request with only-if-cached gets the stored response, or else a 504', async () => {
    const { ask, runs } = await site(url(), honoring, control('max-age=60'));
    const only = { 'Cache-Control': 'only-if-cached' };
    const missing = await ask('/a', only);
    expect(missing.status).toBe(504);
    expect(missing.headers['content-type']).toContain('application/problem+json');
    expect(runs()).toBe(0);
    await ask();
    expect((await ask('/a', only)).headers.age).toBeDefined();
    expect((await ask('/a', { 'Cache-Control': 'only-if-cached, max-age=0, min-fresh=99' })).status).toBe(
      504,
    );
    expect((await ask('/a', { 'Cache-Control': 'only-if-cached, no-cache' })).status).toBe(504);
    expect(runs()).toBe(1);
  });

  it('a malformed directive of a request is ignored', async () => {
    const { ask, runs } = await site(url(), honoring, control('max-age=60'));
    await ask();
    for (const directive of ['max-age=x', 'min-fresh', 'max-age', 'x-y="no-cache"']) {
      expect((await ask('/a', { 'Cache-Control': directive })).headers.age, directive).toBeDefined();
    }
    expect(runs()).toBe(1);
  });
});

describeBySeconds('RFC 9111, section 4.4: unsafe requests', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** Whether `/a` and `/b?x=1` are still stored after a request of this method with this response. */
  async function leftAfter(
    method: string,
    status: number,
    headers: Parameters<typeof says>[0] | ((address: string) => Parameters<typeof says>[0]) = {},
  ) {
    let address = '';
    const made = await site(url(), { ttl: '1m' }, (req, res, next) => {
      const isAsked = req.method === 'GET' || req.method === 'HEAD';
      const answer = typeof headers === 'function' ? headers(address) : headers;
      const body = status === 204 || status === 304 ? '' : 'body';
      return (isAsked ? says({}) : says(answer, { status, body }))(req, res, next);
    });
    address = made.address;
    for (const path of ['/a', '/b?x=1', '/a?x=1']) await made.ask(path);
    await made.ask('/a', {}, method);
    const left = [];
    for (const path of ['/a', '/b?x=1']) left.push((await made.ask(path)).headers.age !== undefined);
    expect((await made.ask('/a?x=1')).headers.age, 'another URL').toBeDefined();
    return left;
  }

  it.each(['POST', 'PUT', 'DELETE', 'PATCH', 'MKCOL', 'PROPPATCH'])(
    'a %s request invalidates its URL',
    async (method) => {
      expect(await leftAfter(method, 200)).toEqual([false, true]);
    },
  );

  it.each([201, 202, 204, 299, 301, 302, 303, 304])(
    'an unsafe request with the status %i invalidates its URL',
    async (status) => {
      expect(await leftAfter('POST', status)).toEqual([false, true]);
    },
  );

  it.each([400, 404, 409, 422, 500, 503])(
    'an unsafe request with the status %i invalidates nothing',
    async (status) => {
      expect(await leftAfter('POST', status, { Location: '/b?x=1' })).toEqual([true, true]);
    },
  );

  it.each(['OPTIONS', 'HEAD', 'GET', 'TRACE'])(
    'a %s request is safe and invalidates nothing',
    async (method) => {
      expect(await leftAfter(method, 200, { Location: '/b?x=1' })).toEqual([true, true]);
    },
  );

  it.each(['Location', 'Content-Location'])(
    'an unsafe request invalidates a URL in %s on the same host',
    async (name) => {
      for (const value of ['/b?x=1', 'b?x=1', './../b?x=1']) {
        expect(await leftAfter('POST', 201, { [name]: value }), value).toEqual([false, false]);
      }
      expect(await leftAfter('POST', 201, (address) => ({ [name]: `${address}/b?x=1` }))).toEqual([
        false,
        false,
      ]);
      expect(
        await leftAfter('POST', 201, (address) => ({ [name]: `${address.replace('http', 'https')}/b?x=1` })),
        'where TLS ends before the app',
      ).toEqual([false, false]);
    },
  );

  it.each(['Location', 'Content-Location'])(
    'an unsafe request does not invalidate a URL in %s on another host',
    async (name) => {
      for (const value of ['http://other.example/b?x=1', '//127.0.0.1:1/b?x=1', 'http://[/b?x=1', 'b:x']) {
        expect(await leftAfter('POST', 201, { [name]: value }), value).toEqual([false, true]);
      }
    },
  );

  it('an invalidation is done before the client gets the response to its unsafe request', async () => {
    let version = 0;
    const { ask, runs } = await site(url(), { ttl: '1m' }, (req, res) => {
      if (req.method !== 'GET') version++;
      res.end(`version ${version}`);
    });
    for (let round = 1; round <= 5; round++) {
      await ask();
      await ask('/a', {}, 'PUT');
      expect((await ask()).text).toBe(`version ${round}`);
    }
    expect(runs()).toBe(11);
  });

  it('an unsafe request invalidates its URL with only the parameters that `key.query` keeps', async () => {
    const { ask, runs } = await site(url(), { ttl: '1m', key: { query: ['page'] } }, says({}));
    await ask('/a?page=1&utm=x');
    await ask('/a?utm=y&page=1');
    expect(runs()).toBe(1);
    await ask('/a?page=1&token=z', {}, 'POST');
    expect((await ask('/a?page=1')).headers.age).toBeUndefined();
  });

  it('a skipped unsafe request invalidates nothing', async () => {
    const { ask } = await site(
      url(),
      { ttl: '1m', skip: (req) => req.headers['x-skip'] !== undefined },
      says({}),
    );
    await ask();
    await ask('/a', { 'X-Skip': '1' }, 'POST');
    expect((await ask()).headers.age).toBeDefined();
  });

  it('an unsafe request invalidates every variant of its URL', async () => {
    const { ask, runs } = await site(url(), { ttl: '1m' }, says({ Vary: 'X-A' }));
    for (const value of ['1', '2']) await ask('/a', { 'X-A': value });
    await ask('/a', {}, 'DELETE');
    for (const value of ['1', '2']) await ask('/a', { 'X-A': value });
    expect(runs()).toBe(5);
  });
});
