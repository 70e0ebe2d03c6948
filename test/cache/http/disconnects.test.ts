import express from 'express';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { askAndLeave, departures, NO_NOTICES, NOTICES } from '../../http/disconnects.ts';
import { APPS } from '../../http/frameworks.ts';
import { describeOnBothEngines, eventsOf, kitForTest } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

describeOnBothEngines('a response that its handler ended after its client had disconnected', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  /** Whether the response of such a handler is stored. */
  async function isStored(
    [, begin, look]: Omit<(typeof NOTICES)[number], 0>,
    { makeApp = express, ...options }: CacheOptions & { makeApp?: (typeof APPS)[number][1] } = {},
  ): Promise<boolean> {
    const kit = kitForTest({ url: url() });
    const [stored, skipped] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')];
    const left = departures();
    const app = makeApp();
    let runs = 0;
    app.use(left.note);
    app.use(kit.cache({ ttl: '1m', ...options }));
    app.use(async (req, res) => {
      if (++runs > 1) return void res.end('whole');
      const begun = begin(req, res);
      res.write('row ');
      await left.of(req);
      look(begun, req, res);
      res.end('row');
    });
    const address = await serve(app);
    await askAndLeave(address);
    await until('it is stored or not', () => stored.length + skipped.length > 0);
    const { text } = await send(address);
    expect(skipped.map(({ reason }) => reason)).toEqual(text === 'whole' ? ['incomplete'] : []);
    return text === 'row row';
  }

  describe.each(APPS)('on %s', (_, makeApp) => {
    it.each(NOTICES)(
      'a response is not stored when the handler looked at %s after the disconnect',
      async (...notice) => {
        expect(await isStored(notice, { makeApp })).toBe(false);
      },
    );

    it.each(NO_NOTICES)(
      'a response is stored when the handler looked at %s after the disconnect',
      async (...notice) => {
        expect(await isStored(notice, { makeApp })).toBe(true);
      },
    );
  });

  const [blind] = NO_NOTICES;
  const [seeing] = NOTICES;

  it("a response is stored with `onDisconnect: 'keep'` even when the handler noticed the disconnect", async () => {
    expect(await isStored(seeing as never, { onDisconnect: 'keep' })).toBe(true);
  });

  it("a response is not stored with `onDisconnect: 'drop'` even when the handler did not notice the disconnect", async () => {
    expect(await isStored(blind as never, { onDisconnect: 'drop' })).toBe(false);
  });

  it('a response whose handler left its loop at the disconnect is neither stored nor sent to followers', async () => {
    const kit = kitForTest({ url: url() });
    const left = departures();
    const app = express().use(left.note);
    let runs = 0;
    let followers = 0;
    const counts = express().use((_req, _res, next) => {
      followers++;
      next();
    });
    app.use(counts, kit.cache({ ttl: '1m' }), async (req, res) => {
      const isFirst = ++runs === 1;
      for (let row = 0; row < 20 && !res.destroyed; row++) {
        res.write(`${row},`);
        if (isFirst && row === 4) await left.of(req);
      }
      res.end();
    });
    const address = await serve(app);
    const first = askAndLeave(address);
    await until('the first request runs', () => runs === 1);
    const others = [send(address), send(address)];
    await first;
    for (const { text } of [...(await Promise.all(others)), await send(address)]) {
      expect(text).toBe('0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,');
    }
    expect([followers, runs]).toEqual([4, 2]);
  });

  it('a response that its handler ended early with incomplete data is not stored', async () => {
    const kit = kitForTest({ url: url() });
    const left = departures();
    const app = express().use(left.note);
    app.use(kit.cache({ ttl: '1m' }), async (req, res) => {
      res.type('json').flushHeaders();
      if (req.get('x-leaves') !== undefined) await left.of(req);
      res.end(JSON.stringify({ imported: req.aborted ? 5 : 20 }));
    });
    const address = await serve(app);
    await askAndLeave(address, { headers: { 'X-Leaves': 'yes' } });
    expect((await send(address)).text).toBe('{"imported":20}');
  });

  it('a response is stored when kit.rateLimit and kit.lock run between the cache and the handler', async () => {
    const kit = kitForTest({ url: url() });
    const stored = eventsOf(kit, 'cache:stored');
    const left = departures();
    const app = express().use(left.note, kit.cache({ ttl: '1m' }));
    const policy = { algorithm: 'sliding-window', limit: 9, window: '1m', refundWhen: () => true } as const;
    app.use(kit.rateLimit(policy), kit.concurrency({ limit: 2 }), kit.lock({ key: () => 'a' }));
    app.use(async (req, res) => {
      res.write('whole');
      await left.of(req);
      res.end();
    });
    await askAndLeave(await serve(app));
    await until('it is stored', () => stored.length === 1);
  });
});
