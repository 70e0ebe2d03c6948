import { expect, it } from 'vitest';
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
});
