import { once } from 'node:events';
import { createServer, type IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from 'socket.io';
import { io as connect } from 'socket.io-client';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { asExpress } from '../../src/http/middleware.ts';
import type { RedisKit, SessionOptions } from '../../src/index.ts';
import { EXPRESS } from '../http/frameworks.ts';
import { describeWithServers } from '../support/context.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { Browser, SECRET, withRoutes } from './browser.ts';

/** An app with sessions, and its server. */
async function startServer(
  kit: RedisKit,
  options: SessionOptions = {},
  app = EXPRESS[0]?.[1]() as ReturnType<(typeof EXPRESS)[number][1]>,
) {
  const session = kit.session({ secret: SECRET, ...options });
  app.use(session);
  const server = createServer(withRoutes(app, {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { server, session, port, browser: new Browser(port) };
}

/** The handler of a socket, which uses the session of its request. */
const ACTS = {
  read: async (req: IncomingMessage) => asExpress(req).session.views ?? 0,
  async count(req: IncomingMessage) {
    await asExpress(req).session.reload();
    const { session } = asExpress(req);
    session.views = (session.views ?? 0) + 1;
    await session.save();
    return session.views;
  },
  login: (req: IncomingMessage) =>
    asExpress(req)
      .session.login('ann')
      .then(
        () => 'in',
        (error: { code: string }) => error.code,
      ),
};

describeOnBothEngines('kit.session on a WebSocket', (url) => {
  it.each(
    EXPRESS.flatMap(([name, makeApp]) =>
      (['websocket', 'polling'] as const).map((transport) => [transport, name, makeApp] as const),
    ),
  )('a Socket.IO handler over %s gets the stored session, next to %s', async (transport, _, makeApp) => {
    const { server, session, port, browser } = await startServer(kitForTest({ url: url() }), {}, makeApp());
    const io = new Server(server);
    io.engine.use(session);
    io.on('connection', (socket) => {
      for (const [name, act] of Object.entries(ACTS)) {
        socket.on(name, async (answer) => answer(await act(socket.request)));
      }
    });
    onTestFinished(() => void io.close());
    await browser.get('/view');
    const client = connect(`http://127.0.0.1:${port}`, {
      transports: [transport],
      extraHeaders: browser.headers,
      forceNew: true,
    });
    onTestFinished(() => void client.close());
    expect(await client.emitWithAck('read')).toBe(1);
    expect(await client.emitWithAck('count')).toBe(2);
    expect((await browser.get('/view')).body).toBe('3');
    expect(await client.emitWithAck('count')).toBe(4);
    expect((await browser.get('/view')).body).toBe('5');
  });

  it.each([
    ['an empty object', () => ({})],
    ['a response that no socket was assigned to', (req: IncomingMessage) => new ServerResponse(req)],
  ])('a listener of `upgrade` gets the stored session with %s', async (_, makeResponse) => {
    const { server, session, port, browser } = await startServer(kitForTest({ url: url() }));
    const sockets = new WebSocketServer({ noServer: true });
    const replies: string[][] = [];
    sockets.on('headers', (headers) => replies.push(headers));
    server.on('upgrade', (req, socket, head) => {
      session(req, makeResponse(req) as ServerResponse, (error) => {
        if (error !== undefined) socket.destroy();
        else sockets.handleUpgrade(req, socket, head, (client) => sockets.emit('connection', client, req));
      });
    });
    sockets.on('connection', (client: WebSocket, req: IncomingMessage) => {
      client.on('message', async (name) => {
        client.send(JSON.stringify(await ACTS[String(name) as keyof typeof ACTS](req)));
      });
    });
    const talk = async (headers: Record<string, string>) => {
      const client = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
      onTestFinished(() => client.terminate());
      await once(client, 'open');
      return async (name: keyof typeof ACTS) => {
        client.send(name);
        return JSON.parse(String((await once(client, 'message'))[0]));
      };
    };
    await browser.get('/view');
    const tell = await talk(browser.headers);
    expect(await tell('read')).toBe(1);
    expect(await tell('count')).toBe(2);
    expect((await browser.get('/view')).body).toBe('3');
    expect(await (await talk({}))('read')).toBe(0);
    expect(replies.flat().filter((line) => /set-cookie/i.test(line))).toEqual([]);
  });
});

it('a login on a WebSocket rejects and begins no session, since its cookie cannot be sent', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const { session } = await startServer(kit);
  const req = { url: '/', headers: {}, method: 'GET' } as unknown as IncomingMessage;
  await new Promise<void>((loaded) => session(req, {} as ServerResponse, () => loaded()));
  expect(await ACTS.login(req)).toBe('ERR_REDIS_KIT_LATE_SESSION');
  expect(await kit.sessions.count()).toBe(0);
});

describeWithServers('an outage of Redis', () => {
  it.each(['error', 'anonymous'] as const)(
    'an outage of Redis gives a WebSocket handler an error or an empty session (%s)',
    async (onError) => {
      const server = await startRedis();
      const kit = kitForTest({ url: server.url });
      await kit.ready();
      const { session, browser } = await startServer(kit, { onError });
      await browser.get('/view');
      let isDown = false;
      kit.on('connection:down', () => {
        isDown = true;
      });
      await server.stop();
      await until('the kit is down', () => isDown);
      const req = { url: '/', headers: { cookie: browser.headers.Cookie } } as unknown as IncomingMessage;
      const error = await new Promise<unknown>((next) => session(req, {} as ServerResponse, next));
      if (onError === 'error') expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONNECTION', status: 503 });
      else expect([error, asExpress(req).session.views]).toEqual([undefined, undefined]);
    },
  );
});
