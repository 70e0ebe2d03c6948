import { RedisStore } from 'connect-redis';
import express, { type RequestHandler } from 'express';
import expressSession from 'express-session';
import { createClient } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

describeWithServers('kit.session compared with express-session and connect-redis', () => {
  async function commandsOf(makeSession: (url: string) => Promise<RequestHandler>) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const session = await makeSession(server.url);
    const app = express()
      .use(session)
      .get('/change', (req, res) => {
        Object.assign(req.session, { n: Math.random() });
        res.end();
      })
      .get('/read', (req, res) => res.json(req.session.id.length));
    const base = await serve(app);
    const cookie = String((await send(`${base}/change`)).headers['set-cookie']).split(';')[0] ?? '';
    const count = async (path: string, headers = { cookie }) =>
      (await countCommands(server.url, () => send(base + path, { headers }))).length;
    // The first requests load the scripts.
    await count('/change');
    return {
      none: await count('/read', { cookie: '' }),
      read: await count('/read'),
      modified: await count('/change'),
    };
  }

  it('a request that only reads the session costs one command less than with connect-redis', async () => {
    const ours = await commandsOf(async (url) => {
      const kit = kitForTest({ url });
      await kit.ready();
      return kit.session({ secret: 'a secret of both' }) as RequestHandler;
    });
    const theirs = await commandsOf(async (url) => {
      const client = createClient({ url });
      await client.connect();
      onTestFinished(() => client.destroy());
      const store = new RedisStore({ client });
      return expressSession({ store, secret: 'a secret of both', resave: false, saveUninitialized: false });
    });
    expect(ours).toEqual({ none: 0, read: 1, modified: 2 });
    expect(theirs).toEqual({ none: 0, read: 2, modified: 2 });
  });
});
