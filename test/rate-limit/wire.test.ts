import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import express from 'express';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import type { Limiter, RateLimitOptions, RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { send, serve } from '../support/web.ts';
import { countCommands } from '../support/wire.ts';

const window = { algorithm: 'sliding-window', window: '1h' } as const;
const bucket = { algorithm: 'token-bucket', refill: { tokens: 1, per: '1h' } } as const;

let server: RedisServer;
let kit: RedisKit;

/** The names of the commands that reach the server during the work. */
async function commandsOf(work: () => unknown): Promise<readonly string[]> {
  return (await countCommands(server.url, work)).map(([name]) => name);
}

/** Starts an app with the limiter on a server that knows its scripts. Returns a function that sends a request. */
async function appWith(options: RateLimitOptions, of: RedisKit = kit) {
  const app = express();
  app.use(of.rateLimit({ key: (req) => String(req.headers.from), ...options } as RateLimitOptions));
  app.get('/', (req, res) => res.json({ degraded: req.rateLimit?.degraded }));
  const url = await serve(app);
  await send(url, { headers: { from: 'bill', zone: 'elsewhere' } });
  return (from = 'ann') => send(url, { headers: { from, zone: 'here' } });
}

describeWithServers('the commands of a rate limit', () => {
  beforeEach(async () => {
    server = await startRedis();
    onTestFinished(() => server.stop());
    kit = kitForTest({ url: server.url });
    await kit.ready();
  });

  it('an allowed request costs one command', async () => {
    const request = await appWith({ ...window, limit: 3 });
    expect(await commandsOf(request)).toEqual(['EVALSHA']);
    expect(await commandsOf(request)).toEqual(['EVALSHA']);
  });

  it('an allowed request costs one command for all policies of one identity', async () => {
    const policies = [
      { ...window, limit: 3 },
      { ...window, limit: 30, window: '1d' as const },
      { ...bucket, capacity: 3 },
      { ...bucket, capacity: 30 },
    ];
    const request = await appWith({ policies });
    const commands = await countCommands(server.url, request);
    expect(commands.map(([name]) => name)).toEqual(['EVALSHA']);
    expect(commands[0]?.[2]).toBe('4');
  });

  it('a request costs one command per identity', async () => {
    const zone = (req: express.Request) => String(req.headers.zone);
    const request = await appWith({
      policies: [
        { ...window, limit: 3 },
        { ...window, limit: 30, name: 'zone', key: zone },
        { ...bucket, capacity: 30, key: zone },
      ],
    });
    expect(await commandsOf(request)).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('the commands for two identities are sent in one round trip', async () => {
    const gate = await startGate(server, 2);
    const gated = kitForTest({ url: gate.url, commandTimeout: '15s' });
    await gated.ready();
    const zone = (req: express.Request) => String(req.headers.zone);
    const policies = [
      { ...window, limit: 3 },
      { ...bucket, capacity: 3, key: zone },
    ];
    const request = await appWith({ policies }, gated);
    gate.close();
    const answer = await request();
    expect(gate.passes).toBe(1);
    expect(JSON.parse(answer.text)).toEqual({ degraded: false });
  });

  it('the first refusal costs one command, and later refusals cost none', async () => {
    const request = await appWith({ ...window, limit: 1, denyCache: { maxAge: '1h' } });
    await request();
    expect(await commandsOf(request)).toEqual(['EVALSHA']);
    const commands = await commandsOf(async () => {
      for (let times = 0; times < 5; times++) expect((await request()).status).toBe(429);
    });
    expect(commands).toEqual([]);
  });

  it('a remembered refusal costs no command by default', async () => {
    const request = await appWith({ ...bucket, capacity: 1 });
    await request();
    const commands = await commandsOf(async () => {
      expect((await request()).status).toBe(429);
      expect((await request()).status).toBe(429);
    });
    expect(commands).toEqual(['EVALSHA']);
  });

  it('a request that is refused for one identity costs one more command to refund the other identity', async () => {
    const zone = (req: express.Request) => String(req.headers.zone);
    const request = await appWith({
      policies: [
        { ...window, limit: 30 },
        { ...window, limit: 1, name: 'zone', key: zone },
      ],
      denyCache: { maxAge: '1h' },
    });
    await request();
    const commands = await commandsOf(async () => {
      expect((await request('bob')).status).toBe(429);
      // The request does not wait for the refund, but a later command on the same connection comes after it.
      await kit.limiter({ ...window, limit: 9, name: 'later' }).peek('bill');
    });
    expect(commands.filter((name) => name === 'EVALSHA')).toHaveLength(4);
  });

  it('the text of a script is sent only to a server that has not loaded the script', async () => {
    const request = await appWith({ ...window, limit: 100 });
    const client = await connectPlainClient(server.url);
    onTestFinished(() => client.destroy());
    await client.scriptFlush();
    expect(await commandsOf(request)).toEqual(['EVALSHA', 'EVAL']);
    expect(await commandsOf(request)).toEqual(['EVALSHA']);
  });

  it.each([
    ['sliding-window', () => kit.limiter({ ...window, limit: 3 })],
    ['token-bucket', () => kit.limiter({ ...bucket, capacity: 3 })],
  ] as const)('each method of a limiter costs one command (%s)', async (_, make) => {
    const limiter: Limiter = make();
    await limiter.refund(await limiter.consume('bill'));
    expect(await commandsOf(() => limiter.consume('ann'))).toEqual(['EVALSHA']);
    expect(await commandsOf(() => limiter.peek('ann'))).toEqual(['EVALSHA']);
    expect(await commandsOf(() => limiter.penalize('ann', 1))).toEqual(['EVALSHA']);
    const decision = await limiter.consume('ann');
    expect(await commandsOf(() => limiter.refund(decision))).toEqual(['EVALSHA']);
    expect(await commandsOf(() => limiter.refund(decision))).toEqual([]);
    expect(await commandsOf(() => limiter.reset('ann'))).toEqual(['DEL']);
  });
});

/** A proxy that, once closed, forwards nothing until this many scripts have arrived together. */
async function startGate(target: { readonly host: string; readonly port: number }, scripts: number) {
  let isClosed = false;
  let passes = 0;
  const proxy = createServer((client) => {
    const upstream = connect(target.port, target.host);
    let held = Buffer.alloc(0);
    client.on('data', (bytes) => {
      held = Buffer.concat([held, bytes]);
      if (isClosed && held.toString('latin1').split('EVALSHA').length - 1 < scripts) return;
      if (isClosed) passes++;
      upstream.write(held);
      held = Buffer.alloc(0);
    });
    upstream.pipe(client);
    for (const socket of [client, upstream]) {
      const end = () => {
        client.destroy();
        upstream.destroy();
      };
      socket.on('error', end).on('close', end);
    }
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  onTestFinished(() => {
    proxy.close();
  });
  return {
    url: `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    close() {
      isClosed = true;
    },
    get passes() {
      return passes;
    },
  };
}
