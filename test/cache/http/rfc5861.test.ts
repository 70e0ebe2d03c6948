import connect from 'connect';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeBySeconds, eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { agingKit } from '../aging.ts';
import { loadCacheScripts } from '../scripts.ts';
import { lastStatus, type SiteOptions, site } from './site.ts';

/** A page with this Cache-Control that contains the number of the run, and later fails with a status or an error. */
function failing(control: string | undefined, failure: () => number | Error | undefined) {
  let made = 0;
  return (_req: unknown, res: import('express').Response, next: (error?: unknown) => void) => {
    const fails = failure();
    if (fails instanceof Error) return next(fails);
    if (control !== undefined) res.setHeader('Cache-Control', control);
    res.setHeader('X-Of', fails === undefined ? 'success' : 'failure');
    res.status(fails ?? 200).end(fails === undefined ? `page ${++made}` : 'failure');
  };
}

describeBySeconds('RFC 5861', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe('RFC 5861, section 3: stale-while-revalidate', () => {
    it.each<[string, string | undefined, SiteOptions]>([
      ['of the response', 'max-age=10, stale-while-revalidate=20', {}],
      ['of the option', 'max-age=10', { staleWhileRevalidate: '20s' }],
      ['of the option beside a ttl', undefined, { ttl: '10s', staleWhileRevalidate: '20s' }],
      ['of the response beside a ttl', 'stale-while-revalidate=20', { ttl: '10s' }],
      [
        'of the response rather than the option',
        'max-age=10, stale-while-revalidate=20',
        { staleWhileRevalidate: '1h' },
      ],
      [
        'of the option rather than the response, beside a ttl',
        'stale-while-revalidate=3600',
        { ttl: '10s', staleWhileRevalidate: '20s' },
      ],
    ])(
      'a stale response is sent and refreshed in the background during the window %s',
      async (_, control, options) => {
        const { ask, pass, runs, storedAll, kit } = await site(
          url(),
          options,
          failing(control, () => undefined),
        );
        const stale = eventsOf(kit, 'cache:stale');
        await ask();
        await storedAll(1);
        await pass(29_000);
        const answer = await ask();
        expect([answer.text, answer.headers.age]).toEqual(['page 1', '29']);
        expect(stale).toEqual([{ url: '/a' }]);
        await storedAll(2);
        expect((await ask()).text).toBe('page 2');
        await pass(31_000);
        expect((await ask()).text, 'its window has ended').toBe('page 3');
        expect(runs()).toBe(3);
      },
    );

    it('a stale response is sent before the handler of its refresh has ended', async () => {
      let go: (() => void) | undefined;
      const { ask, pass, runs, storedAll } = await site(url(), {}, (_req, res) => {
        res.setHeader('Cache-Control', 'max-age=10, stale-while-revalidate=60');
        if (runs() === 1) res.end('first');
        else go = () => res.end('second');
      });
      await ask();
      await pass(11_000);
      for (let request = 0; request < 3; request++) expect((await ask()).text).toBe('first');
      await until('the handler runs', () => go !== undefined);
      expect((await ask()).text).toBe('first');
      expect(runs(), 'once for all').toBe(2);
      go?.();
      await storedAll(2);
      expect((await ask()).text).toBe('second');
    });

    it('on Connect, one request refreshes a stale response while the others get the stale one', async () => {
      const { kit, local, pass } = agingKit(url());
      const stored = eventsOf(kit, 'cache:stored');
      let runs = 0;
      let go: (() => void) | undefined;
      const app = connect();
      app.use(kit.cache({ ttl: '10s', staleWhileRevalidate: '1m', local }));
      app.use((_req, res) => {
        runs++;
        if (runs === 1) res.end('first');
        else go = () => res.end('second');
      });
      const address = await serve(app);
      await send(address);
      await pass(11_000);
      const refreshing = send(address);
      await until('the handler runs', () => go !== undefined);
      expect((await send(address)).text).toBe('first');
      go?.();
      expect((await refreshing).text).toBe('second');
      await until('it is stored', () => stored.length === 2);
      expect((await send(address)).text).toBe('second');
      expect(runs).toBe(2);
    });

    it('on Connect, the request that refreshes gets the stale response when the refresh fails', async () => {
      const { kit, local, pass } = agingKit(url());
      let runs = 0;
      const app = connect();
      app.use(kit.cache({ ttl: '10s', staleWhileRevalidate: '1m', local }));
      app.use((_req, res, next) => {
        if (++runs > 1) next(new Error('on purpose'));
        else res.end('first');
      });
      const address = await serve(app);
      await send(address);
      await pass(11_000);
      const answer = await send(address);
      expect([answer.status, answer.text, answer.headers.age]).toEqual([200, 'first', '11']);
      expect(lastStatus(answer)).toMatch(/^redis-kit; fwd=stale; fwd-status=500; ttl=-[12]$/);
    });
  });

  describe('RFC 5861, section 4: stale-if-error', () => {
    /** The response in place of a failure this many seconds after a success. */
    async function instead(
      failure: number | Error,
      {
        control = 'max-age=10, stale-if-error=50',
        after = 20,
        ...options
      }: SiteOptions & { control?: string; after?: number } = {},
    ) {
      let fails = false;
      const made = await site(
        url(),
        options,
        failing(control, () => (fails ? failure : undefined)),
      );
      await made.ask();
      await made.storedAll(1);
      fails = true;
      await made.pass(after * 1_000);
      const answer = await made.ask();
      expect(made.runs()).toBe(2);
      return { ...made, answer };
    }

    it.each([500, 502, 503, 504])('a stale response is sent instead of %i', async (status) => {
      const { answer } = await instead(status);
      expect([answer.status, answer.text]).toEqual([200, 'page 1']);
      expect(answer.headers.age, 'a second may have begun').toMatch(/^2[012]$/);
      expect(answer.headers['x-of']).toBe('success');
      expect(lastStatus(answer)).toMatch(/ttl=-1[01]$/);
      expect(lastStatus(answer)).toContain(`fwd=stale; fwd-status=${status}`);
    });

    it('a stale response is sent instead of an error that was passed to `next`', async () => {
      const { answer } = await instead(new Error('on purpose'));
      expect([answer.status, answer.text]).toEqual([200, 'page 1']);
      expect(answer.headers.age, 'a second may have begun').toMatch(/^2[012]$/);
    });

    it.each([404, 400, 501, 505, 429, 301])(
      'a %i is sent although a stale response is stored',
      async (status) => {
        const { answer } = await instead(status);
        expect([answer.status, answer.text, answer.headers.age]).toEqual([status, 'failure', undefined]);
      },
    );

    it.each<[string, SiteOptions & { control?: string }]>([
      ['of the option', { control: 'max-age=10', staleIfError: '50s' }],
      ['of the option beside a ttl', { control: 'public', ttl: '10s', staleIfError: '50s' }],
      ['of the response beside a ttl', { control: 'stale-if-error=50', ttl: '10s' }],
      [
        'of the response rather than the option',
        { control: 'max-age=10, stale-if-error=50', staleIfError: '1s' },
      ],
      [
        'of the option rather than the response, beside a ttl',
        { control: 'stale-if-error=1', ttl: '10s', staleIfError: '50s' },
      ],
    ])('the stale-if-error window %s applies', async (_, options) => {
      expect((await instead(503, { ...options, after: 59 })).answer.status).toBe(200);
      expect((await instead(503, { ...options, after: 61 })).answer.status).toBe(503);
    });

    it('RFC 9111, section 4.2.4: an error is sent when no stale-if-error window is set', async () => {
      expect((await instead(503, { control: 'max-age=10' })).answer.status).toBe(503);
      expect((await instead(503, { control: 'max-age=10, stale-if-error=x' })).answer.status).toBe(503);
    });

    it('a success replaces the stale response', async () => {
      let fails = false;
      const { ask, pass, storedAll } = await site(
        url(),
        {},
        failing('max-age=10, stale-if-error=50', () => (fails ? 503 : undefined)),
      );
      await ask();
      await storedAll(1);
      await pass(20_000);
      expect((await ask()).text).toBe('page 2');
      await storedAll(2);
      await pass(20_000);
      fails = true;
      expect((await ask()).text).toBe('page 2');
      expect((await ask()).text).toBe('page 2');
    });

    it.each<[string, string, string]>([
      ['with Authorization', 'Authorization', 'Basic eDp5'],
      ['for a variant that is not stored', 'X-Variant', 'other'],
    ])(
      'a stale response is sent instead of an error after a request %s has got an error',
      async (_, name, value) => {
        let isDown = false;
        const { ask, pass, storedAll } = await site(
          url(),
          { ttl: '10s', staleIfError: '1h', local: false },
          (_req, res) =>
            void res
              .vary('X-Variant')
              .status(isDown ? 503 : 200)
              .end(isDown ? 'down' : 'page'),
        );
        await ask();
        await storedAll(1);
        await pass(11_000);
        isDown = true;
        for (const _round of [1, 2]) {
          expect((await ask()).text).toBe('page');
          expect((await ask('/a', { [name]: value })).status).toBe(503);
        }
        expect((await ask()).text).toBe('page');
      },
    );

    it('the conditions and Range of a client apply to a stale response sent instead of an error', async () => {
      let fails = false;
      const { ask, pass, storedAll } = await site(url(), {}, (_req, res) => {
        if (fails) return void res.sendStatus(503);
        res.setHeader('Cache-Control', 'max-age=10, stale-if-error=50');
        res.setHeader('ETag', '"1"');
        res.end('0123456789');
      });
      await ask();
      await storedAll(1);
      await pass(20_000);
      fails = true;
      expect((await ask('/a', { 'If-None-Match': '"1"' })).status).toBe(304);
      const part = await ask('/a', { Range: 'bytes=2-3' });
      expect([part.status, part.text, part.headers['content-range']]).toEqual([206, '23', 'bytes 2-3/10']);
      expect((await ask('/a', {}, 'HEAD')).status, 'HEAD is answered by the handler').toBe(503);
    });

    it('a stale response is sent instead of an error that the handler streams', async () => {
      let fails = false;
      const { ask, pass, storedAll } = await site(url(), { ttl: '10s', staleIfError: '1m' }, (_req, res) => {
        res.status(fails ? 502 : 200);
        res.write('begun ');
        setImmediate(() => res.end(fails ? 'failure' : 'success'));
      });
      await ask();
      await storedAll(1);
      await pass(20_000);
      fails = true;
      const answer = await ask();
      expect([answer.status, answer.text]).toEqual([200, 'begun success']);
    });
  });

  it('a stale response is still sent instead of an error after a failed refresh', async () => {
    let fails = false;
    const control = 'max-age=10, stale-while-revalidate=20, stale-if-error=50';
    const { ask, pass, storedAll, skipped } = await site(
      url(),
      {},
      failing(control, () => (fails ? 503 : undefined)),
    );
    await ask();
    await storedAll(1);
    fails = true;
    await pass(29_000);
    expect((await ask()).text).toBe('page 1');
    await until('the refresh failed', () => skipped.length === 1);
    await pass(2_000);
    for (let request = 0; request < 3; request++) expect((await ask()).text).toBe('page 1');
  });

  it('after stale-while-revalidate has ended, a stale response is sent only instead of an error', async () => {
    let fails = false;
    const { ask, pass, storedAll, skipped } = await site(
      url(),
      { singleFlight: false },
      failing('max-age=10, stale-while-revalidate=20, stale-if-error=50', () => (fails ? 503 : undefined)),
    );
    await ask();
    await storedAll(1);
    fails = true;
    await pass(20_000);
    expect((await ask()).headers['cache-status']).toMatch(/^redis-kit; hit; ttl=-1[01]$/);
    await until('the refresh failed', () => skipped.length === 1);
    await pass(15_000);
    expect((await ask()).headers['cache-status']).toContain('fwd=stale; fwd-status=503');
    await pass(30_000);
    expect((await ask()).status).toBe(503);
  });
});
