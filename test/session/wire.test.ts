import { once } from 'node:events';
import { inspect } from 'node:util';
import type { Request, Response } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { sessionWrite } from '../../src/session/operations/write.ts';
import { Gate } from '../http/exchange.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { Browser, serveSessions } from './browser.ts';

describeWithServers('the commands of a session', () => {
  async function start(options: Parameters<typeof serveSessions>[1] = {}, routes = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const kit = kitForTest({ url: server.url });
    await kit.ready();
    const port = await serveSessions(kit, options, routes);
    const browser = new Browser(port);
    // The first requests load the scripts.
    await browser.get('/login');
    await browser.get('/logout');
    await browser.get('/login');
    await browser.get('/view');
    const count = async (work: () => unknown) =>
      (await countCommands(server.url, work)).map(([name]) => name);
    return { server, kit, port, browser, count };
  }

  it('a request without a cookie costs no command', async () => {
    const { port, count } = await start();
    expect(await count(() => new Browser(port).get('/'))).toEqual([]);
  });

  it('a request with a forged cookie costs no command', async () => {
    const { port, count } = await start();
    const thief = new Browser(port);
    thief.cookies.set('connect.sid', 's:abc.def');
    expect(await count(() => thief.get('/'))).toEqual([]);
  });

  it('a request that only reads the session costs one command', async () => {
    const { browser, count } = await start();
    expect(await count(() => browser.get('/'))).toEqual(['EVALSHA']);
  });

  it('a request that only reads the session costs one command with a rolling cookie', async () => {
    const { browser, count } = await start({ rolling: true });
    expect(await count(() => browser.get('/'))).toEqual(['EVALSHA']);
  });

  it('a request that changes the session costs two commands', async () => {
    const { browser, count } = await start();
    expect(await count(() => browser.get('/view'))).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a session change that the handler reverts costs no write', async () => {
    const { browser, count } = await start(
      {},
      {
        '/back': (req: { session: { views?: number } }, res: { end(): void }) => {
          const before = req.session.views;
          req.session.views = -1;
          if (before !== undefined) req.session.views = before;
          res.end();
        },
      },
    );
    expect(await count(() => browser.get('/back'))).toEqual(['EVALSHA']);
  });

  it('a `userId` that is saved in a new session costs a write and an update of the index', async () => {
    const { port, count } = await start();
    expect(await count(() => new Browser(port).get('/login'))).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a save that the handler does not await is not repeated at the end of the response', async () => {
    const { port, count } = await start(
      {},
      {
        '/hasty': (req: Request, res: Response) => {
          req.session.note = 'hasty';
          req.session.save();
          res.redirect('/');
        },
      },
    );
    const browser = new Browser(port);
    expect(await count(() => browser.get('/hasty'))).toEqual(['EVALSHA']);
    expect(await browser.data()).toEqual({ note: 'hasty' });
  });

  it('a new `userId` of a client with a session costs a read, a destroy, a write and an update of the index', async () => {
    const { port, count } = await start();
    const browser = new Browser(port);
    await browser.get('/view');
    expect(await count(() => browser.get('/login'))).toEqual(['EVALSHA', 'DEL', 'EVALSHA', 'EVALSHA']);
  });

  it('a destroy costs a read and a delete, and for a session with a `userId` an update of the index', async () => {
    const { port, browser, count } = await start();
    expect(await count(() => browser.get('/logout'))).toEqual(['EVALSHA', 'DEL', 'EVALSHA']);
    const anonymous = new Browser(port);
    await anonymous.get('/view');
    expect(await count(() => anonymous.get('/logout'))).toEqual(['EVALSHA', 'DEL']);
  });

  it('a save of a session that is already in the index of its user costs no further command', async () => {
    const { browser, count } = await start();
    expect(await count(() => browser.get('/view'))).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a login costs a read, a write, an update of the index and a delete; a logout a read, a delete and an update', async () => {
    const { port, browser, count } = await start(
      {},
      {
        '/in': async (req: Request, res: Response) => {
          await req.session.login('ann', { data: { note: 'x' } });
          res.end();
        },
        '/out': async (req: Request, res: Response) => {
          await req.session.logout();
          res.end();
        },
      },
    );
    const other = new Browser(port);
    for (const path of ['/in', '/out']) await other.get(path);
    await browser.get('/logout');
    await browser.get('/view');
    expect(await count(() => browser.get('/in'))).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA', 'DEL']);
    expect(await count(() => browser.get('/'))).toEqual(['EVALSHA']);
    expect(await count(() => browser.get('/out'))).toEqual(['EVALSHA', 'DEL', 'EVALSHA']);
    expect(await count(() => new Browser(port).get('/in'))).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('a cookie of an ended session costs one read per request', async () => {
    const { browser, count } = await start();
    const cookie = browser.cookies.get('connect.sid') ?? '';
    await browser.get('/logout');
    browser.cookies.set('connect.sid', cookie);
    expect(await count(() => browser.get('/'))).toEqual(['EVALSHA']);
    expect(await count(() => browser.get('/logout'))).toEqual(['EVALSHA']);
  });

  it('a save of a session that another request has changed meanwhile costs one command', async () => {
    const inside = new Gate();
    const gate = new Gate();
    const { browser, count } = await start(
      {},
      {
        '/slow': async (req: Request, res: Response) => {
          inside.open();
          await gate.promise;
          req.session.note = 'late';
          res.end();
        },
      },
    );
    const commands = await count(async () => {
      const slow = browser.begin('/slow');
      await inside.promise;
      await browser.get('/view');
      gate.open();
      await slow.answer();
    });
    expect(commands).toEqual(['EVALSHA', 'EVALSHA', 'EVALSHA', 'EVALSHA']);
    expect(await browser.data()).toMatchObject({ note: 'late', views: 2 });
  });

  it('of 100 parallel requests that change one session, each costs two commands', async () => {
    let waiting = 100;
    const all = new Gate();
    const { browser, count } = await start(
      {},
      {
        '/set': async (req: Request, res: Response) => {
          if (--waiting === 0) all.open();
          await all.promise;
          Object.assign(req.session, { [`k${req.url.split('?')[1]}`]: true });
          res.end();
        },
      },
    );
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    const commands = await count(() => Promise.all(numbers.map((n) => browser.begin(`/set?${n}`).answer())));
    expect(commands).toEqual(Array.from({ length: 200 }, () => 'EVALSHA'));
    expect(await browser.data()).toMatchObject(Object.fromEntries(numbers.map((n) => [`k${n}`, true])));
  });

  it('a request that takes longer than half the idle time moves the idle deadline again at its end', async () => {
    const inside = new Gate();
    const { port, count } = await start(
      { idle: '1h', touchAfter: '30m' },
      {
        '/slow': async (_req: Request, res: Response) => {
          inside.open();
          await passTime(1_800_001);
          res.end();
        },
      },
    );
    const browser = new Browser(port);
    stopTime();
    await browser.get('/view');
    expect(await count(() => browser.get('/slow'))).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('the session of a request whose client has gone is written once when the handler ends', async () => {
    const inside = new Gate();
    const { server, browser } = await start(
      {},
      {
        '/slow': async (req: Request, res: Response) => {
          inside.open();
          await once(res, 'close');
          req.session.note = 'late';
          res.write('a');
          res.end();
          res.end();
        },
      },
    );
    const commands = await countCommands(server.url, async () => {
      const slow = browser.begin('/slow');
      await inside.promise;
      slow.socket.destroy();
      await until('the session is saved', async () => JSON.stringify(await browser.data()).includes('late'));
    });
    expect(commands.filter(([, sha]) => sha === sessionWrite.sha)).toHaveLength(1);
  });

  it('no Redis key, stored value or event shows a session id', async () => {
    const { server, kit, browser } = await start({ rolling: true });
    const events = (
      [
        'session:created',
        'session:loaded',
        'session:rotated',
        'session:revoked',
        'session:destroyed',
        'session:conflict',
        'session:corrupt',
        'error',
      ] as const
    ).map((name) => eventsOf(kit, name));
    const before = browser.sessionId;
    const commands = await countCommands(server.url, async () => {
      await browser.get('/view');
      await browser.get('/login');
    });
    const after = browser.sessionId;
    const client = await connectPlainClient(server.url);
    onTestFinished(() => client.destroy());
    const key = browser.keyIn(kit);
    await client.set(key, 'broken', { EX: 60 });
    await browser.get('/');
    const [, loaded = [], ...others] = events;
    expect([loaded.length, others.flat().length]).toEqual([2, 3]);
    const everything = inspect([commands, events, await client.keys('*')], { depth: 9 });
    for (const id of [before, after]) {
      expect(id).not.toBe('');
      expect(everything).not.toContain(id);
    }
  });
});
