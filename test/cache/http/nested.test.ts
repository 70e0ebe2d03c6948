import express from 'express';
import { expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { EXPRESS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';

describeOnBothEngines('two caches on one route', (url) => {
  it.each(EXPRESS)(
    'the inner cache passes a request on when the outer cache has the same key, on %s',
    async (_name, makeApp) => {
      const kit = kitForTest({ url: url() });
      const stored = eventsOf(kit, 'cache:stored');
      let runs = 0;
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m' }));
      app.get('/', kit.cache({ ttl: '1h' }), (_req, res) => {
        runs++;
        res.send('page');
      });
      const address = await serve(app);
      const answers = await Promise.all([send(address), send(address), send(address)]);
      expect(answers.map(({ status, text }) => [status, text])).toEqual(Array(3).fill([200, 'page']));
      expect((await send(address)).headers.age).toBe('0');
      expect([runs, stored.length]).toEqual([1, 1]);
    },
    9_000,
  );

  it('the inner cache stores the response as well when its key differs from that of the outer cache', async () => {
    const kit = kitForTest({ url: url() });
    const stored = eventsOf(kit, 'cache:stored');
    const app = (EXPRESS[0]?.[1] ?? (() => expect.fail('there is no Express')))();
    app.use(kit.cache({ ttl: '1m', key: () => 'outer' }));
    app.get('/', kit.cache({ ttl: '1m', key: () => 'inner' }), (_req, res) => void res.send('page'));
    const address = await serve(app);
    await send(address);
    await until('both are stored', () => stored.length === 2);
  });

  it.each<[string, CacheOptions['key'], CacheOptions['key']]>([
    ['two headers', { headers: ['x-a'] }, { headers: ['x-b'] }],
    ['two cookies', { cookies: ['a'] }, { cookies: ['b'] }],
    ['a header and a cookie', { headers: ['x-a'] }, { cookies: ['b'] }],
    ['a header and the session', { headers: ['x-a'] }, { session: (req) => req.get('x-b') ?? '' }],
    ['one header and two', { headers: ['x-a'] }, { headers: ['x-b', 'x-a'] }],
  ])('two caches whose keys name %s share no response', async (_name, one, other) => {
    const kit = kitForTest({ url: url() });
    const caches = { one: kit.cache({ ttl: '1m', key: one }), other: kit.cache({ ttl: '1m', key: other }) };
    const app = express();
    app.use((req, res, next) => caches[req.get('x-cache') === 'one' ? 'one' : 'other'](req, res, next));
    app.use((req, res) => void res.send(`for ${req.get('x-cache')}`));
    const address = await serve(app);
    const text = async (cache: string, headers: Record<string, string>) =>
      (await send(address, { headers: { 'X-Cache': cache, ...headers } })).text;
    const own = { 'X-A': 'A', Cookie: 'a=A' };
    expect(await text('one', own)).toBe('for one');
    expect(await text('other', { 'X-B': 'A', Cookie: 'b=A' })).toBe('for other');
    expect(await text('other', { ...own, 'X-B': 'A', Cookie: 'a=A; b=A' })).toBe('for other');
    expect(await text('one', own)).toBe('for one');
    for (const cache of ['one', 'other']) expect(await text(cache, {})).toBe(`for ${cache}`);
  });
});
