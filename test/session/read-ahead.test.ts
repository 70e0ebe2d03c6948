import express from 'express';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { sessionRead } from '../../src/session/operations/read.ts';
import { serve } from '../http/exchange.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type Proxy as RedisProxy, startProxy } from '../support/proxy.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { passTime, stopClock } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { Browser, type Routes, SECRET, withRoutes } from './browser.ts';

let server: RedisServer;
let proxy: RedisProxy;

const LIMIT = { algorithm: 'sliding-window', limit: 100, window: '1h', key: () => 'all' } as const;

interface SiteOptions extends SessionOptions {
  readonly limit?: number;
  readonly routes?: Routes;
}

/** A limiter and sessions in one pipeline. */
async function startSite({ limit = 100, routes = {}, ...options }: SiteOptions = {}, prefix = testPrefix()) {
  const kit = kitForTest({ url: proxy.url, prefix });
  await kit.ready();
  const session = kit.session({ secret: SECRET, ...options });
  const app = express().set('env', 'test');
  app.use(kit.pipeline(kit.rateLimit({ ...LIMIT, limit }), session));
  const browser = new Browser(await serve(withRoutes(app, routes)));
  return { kit, session, browser };
}

async function storedAt(browser: Browser, kit: RedisKit): Promise<string | null> {
  return withPlainClient(server.url, (client) =>
    client.sendCommand(['GETRANGE', browser.keyIn(kit), '0', '20']),
  ).then(String);
}

describeWithServers('a session in a pipeline', () => {
  beforeEach(async () => {
    server = await startRedis();
    onTestFinished(() => server.stop());
    proxy = await startProxy({ host: '127.0.0.1', port: server.port });
  });

  it('the session is read with the command of the limiter before it, in one piece', async () => {
    const { browser } = await startSite();
    await browser.get('/view');
    await browser.get('/view');
    const before = proxy.scripts.length;
    expect(await browser.data()).toEqual({ views: 2 });
    const pieces = proxy.scripts.slice(before);
    expect(pieces).toHaveLength(1);
    expect(pieces[0]).toHaveLength(2);
    expect(pieces[0]).toContain(sessionRead.sha);
  });

  it('a request that only reads the session costs one command besides that of the limiter, and a change costs two', async () => {
    const { browser } = await startSite();
    await browser.get('/view');
    await browser.get('/view');
    const count = async (path: string) =>
      (await countCommands(server.url, () => browser.get(path))).map(([name]) => name);
    expect(await count('/')).toEqual(['EVALSHA', 'EVALSHA']);
    expect(await count('/view')).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA']);
    expect(await browser.data()).toEqual({ views: 3 });
  });

  it('a read that is due to move the idle deadline costs one command more, and moves it', async () => {
    stopClock();
    const { browser } = await startSite({ idle: '10m', touchAfter: '1m' });
    for (const path of ['/view', '/']) await browser.get(path);
    for (let visit = 0; visit < 3; visit++) {
      await passTime(300_000);
      const commands = await countCommands(server.url, async () => {
        expect(await browser.data()).toEqual({ views: 1 });
        await browser.get('/');
      });
      expect(commands.map(([name]) => name)).toEqual(Array.from({ length: 5 }, () => 'EVALSHA'));
    }
  });

  it('a request that the limiter refuses does not move the idle deadline', async () => {
    stopClock();
    const prefix = testPrefix();
    const { kit, browser } = await startSite({ limit: 1, idle: '10m', touchAfter: '1m' }, prefix);
    await browser.get('/view');
    await passTime(300_000);
    const before = await storedAt(browser, kit);
    // The limiter of another process does not know the refusal, so the session is read ahead.
    const other = await startSite({ limit: 1, idle: '10m', touchAfter: '1m' }, prefix);
    for (const [name, value] of browser.cookies) other.browser.cookies.set(name, value);
    const commands = await countCommands(server.url, async () => {
      expect((await other.browser.get('/')).status).toBe(429);
    });
    expect(commands.map(([, sha]) => sha)).toContain(sessionRead.sha);
    expect(await storedAt(browser, kit)).toBe(before);
  });

  it('a session that was destroyed is not found again by a second call of the same middleware', async () => {
    let session: ReturnType<RedisKit['session']> | undefined;
    const routes: Routes = {
      '/twice': async (req, res) => {
        await req.session.destroy();
        session?.(req, res, () => void res.json(req.session.views ?? null));
      },
    };
    const site = await startSite({ routes });
    session = site.session;
    await site.browser.get('/view');
    expect((await site.browser.get('/twice')).body).toBe('null');
    expect(await site.kit.sessions.count()).toBe(0);
  });

  it.each(['error', 'anonymous'] as const)(
    'a session that cannot be read ahead follows the failure policy (%s)',
    async (onError) => {
      const { browser, kit } = await startSite({ onError });
      await browser.get('/view');
      let isDown = false;
      kit.on('connection:down', () => {
        isDown = true;
      });
      proxy.sever();
      await until('the kit is down', () => isDown);
      const answer = await browser.get('/view');
      expect([answer.status, answer.header('set-cookie')]).toEqual([
        onError === 'error' ? 503 : 200,
        undefined,
      ]);
      if (onError === 'anonymous') expect(answer.body).toBe('1');
      proxy.mend();
      await until('the session is back', async () => (await browser.get('/view')).body === '2');
    },
  );
});
