import type { RequestHandler } from 'express';
import { rateLimit } from 'express-rate-limit';
import { beforeAll, expect, it } from 'vitest';
import { isRevalidation } from '../../../src/index.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type SiteOptions, site } from './site.ts';

const STALE = { ttl: '10s', staleWhileRevalidate: '1h' } as const;

describeOnBothEngines('revalidations that earlier middleware refuses', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(above: RequestHandler, makeApp?: SiteOptions['makeApp']) {
    const made: string[] = [];
    const options = { ...STALE, above: [above], ...(makeApp && { makeApp }) };
    const pages = await site(url(), options, (req, res) => {
      made.push(req.url);
      res.send(`${req.url} ${made.length}`);
    });
    const refused = eventsOf(pages.kit, 'cache:refresh-refused');
    return { ...pages, refused, made };
  }

  const statuses = [429, 401, 503];
  const cases = EXPRESS.flatMap(([app, makeApp]) =>
    statuses.map((status) => [status, app, makeApp] as const),
  );

  it.for(cases)(
    'after one answer with %i, on %s, the next revalidation succeeds in the background',
    async (each) => {
      const [status, , makeApp] = each;
      let refusals = 1;
      const refuseOnce: RequestHandler = (req, res, next) => {
        if (isRevalidation(req) && refusals-- > 0) res.sendStatus(status);
        else next();
      };
      const app = makeApp as SiteOptions['makeApp'];
      const { ask, pass, storedAll, refused, made } = await start(refuseOnce, app);
      await ask('/a');
      await ask('/b');
      await storedAll(2);
      await pass(11_000);
      expect((await ask('/a')).text).toBe('/a 1');
      await until('it is refused', () => refused.length === 1);
      expect(refused).toEqual([{ url: '/a', status }]);
      expect((await ask('/b')).text, 'another URL has its own refresh').toBe('/b 2');
      await storedAll(3);
      await until('/a is revalidated', async () => {
        await pass(2_000);
        expect((await ask('/a')).headers['cache-status'], 'no client waits for the handler').toContain(
          '; hit',
        );
        return made.filter((page) => page === '/a').length > 1;
      });
      expect(refused).toHaveLength(1);
    },
  );

  it('after three refusals with 403 in a row, a request of a client revalidates', async () => {
    let isRefusing = true;
    const { ask, pass, storedAll, refused, made, stored } = await start((req, res, next) => {
      if (isRefusing && isRevalidation(req)) res.sendStatus(403);
      else next();
    });
    await ask();
    await storedAll(1);
    await pass(11_000);
    await until('a client revalidates', async () => {
      await pass(2_000);
      return (await ask()).text === '/a 2';
    });
    expect(refused.length).toBe(3);
    await storedAll(2);
    isRefusing = false;
    await pass(11_000);
    expect((await ask()).text, 'and the next revalidation is tried without a client').toBe('/a 2');
    await until('it is revalidated', () => stored.length === 3 && made.length === 3);
  });

  it('a limiter of another package lets revalidations pass with the option `skip: isRevalidation`', async () => {
    const limiter = rateLimit({ limit: 2, windowMs: 60_000, legacyHeaders: false, skip: isRevalidation });
    const { ask, pass, storedAll, refused } = await start(limiter);
    await ask();
    await storedAll(1);
    await pass(11_000);
    expect((await ask()).status).toBe(200);
    await storedAll(2);
    expect((await ask()).status).toBe(429);
    expect(refused).toEqual([]);
  });

  it('isRevalidation() is false for a request of a client with any headers', async () => {
    const seen: boolean[] = [];
    const { ask } = await start((req, _res, next) => {
      seen.push(isRevalidation(req));
      next();
    });
    await ask('/a', {
      'x-revalidation': '1',
      'cache-control': 'stale-while-revalidate',
      'if-none-match': '*',
    });
    expect(seen).toEqual([false]);
  });
});
