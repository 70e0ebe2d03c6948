import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { gated, numbered, type ShopOptions, shop } from './shop.ts';

let server: RedisServer;

beforeEach(async () => {
  server = await startRedis();
  onTestFinished(() => server.stop());
});

async function start(options: ShopOptions = {}, handler = numbered()) {
  const kit = kitForTest({ url: server.url });
  const made = await shop(kit, options, (req, res, next) => {
    if (req.idempotency?.key !== 'not-final') return handler(req, res, next);
    return void res.status(503).end();
  });
  // Loads the scripts into the server.
  await made.order('not-final');
  return made;
}

/** The commands that reach the server during the work, without the digests of scripts. */
async function commandsOf(work: () => unknown): Promise<readonly string[]> {
  return (await countCommands(server.url, work)).map(([name]) => name);
}

describeWithServers('The commands of kit.idempotency on the wire', () => {
  it('a request that runs costs two commands, a replayed or refused retry one, and a request without a key none', async () => {
    const { order } = await start();
    await order('first');
    expect(await commandsOf(() => order('k'))).toEqual(['EVALSHA', 'EVALSHA']);
    expect(await commandsOf(() => order('k'))).toEqual(['EVALSHA']);
    expect(await commandsOf(() => order('k', { body: '{"other":1}' }))).toEqual(['EVALSHA']);
    expect(await commandsOf(() => order('not-final'))).toEqual(['EVALSHA', 'EVALSHA']);
    expect(await commandsOf(() => order(undefined))).toEqual([]);
    expect(await commandsOf(() => order('"malformed'))).toEqual([]);
    expect(await commandsOf(() => order('k', { method: 'PUT' }))).toEqual([]);
  });

  it('a retry that is refused because the first request is in flight costs one command', async () => {
    const { handler, open, begun } = gated();
    const { order } = await start({ lease: '1h' }, handler);
    const first = order('k');
    await begun;
    expect(await commandsOf(() => order('k'))).toEqual(['EVALSHA']);
    open();
    await first;
  });

  it('a request costs one more command per third of the lease while its handler runs', async () => {
    stopTime();
    const { handler, open, begun } = gated();
    const { order } = await start({ lease: 60_000 }, handler);
    const first = order('k');
    await begun;
    // The retry is refused on the same connection, and so after the renewal.
    const third = async () => {
      await passTime(20_000);
      expect((await order('k')).status).toBe(409);
    };
    await third();
    for (let turn = 0; turn < 4; turn++) expect(await commandsOf(third)).toEqual(['EVALSHA', 'EVALSHA']);
    open();
    await first;
    expect(await commandsOf(() => passTime(120_000))).toEqual([]);
  });

  it('the record of every request has a TTL: running, recorded, too large or not final', async () => {
    const { handler, begun } = gated();
    const { order } = await start({ maxBody: 10 }, async (req, res, next) => {
      if (req.idempotency?.key === 'running') return handler(req, res, next);
      return void res.send('x'.repeat(req.idempotency?.key === 'large' ? 11 : 10));
    });
    void order('running').catch(() => undefined);
    await begun;
    for (const key of ['kept', 'large', 'not-final']) await order(key);
    await withPlainClient(server.url, async (client) => {
      const keys = await client.keys('*');
      expect(keys).toHaveLength(4);
      for (const key of keys) {
        expect(key).toMatch(/^t-\w+:idempotency:\{\*[\w-]{43}\}$/);
        expect(await client.pTTL(key), key).toBeGreaterThan(80_000_000);
      }
    });
  });

  it("kit.idempotency subscribes to a channel only with inFlight: 'wait'", async () => {
    const channels = () => withPlainClient(server.url, (client) => client.pubSubChannels('*'));
    await (await start()).order('k');
    expect(await channels()).toEqual([]);
    await start({ inFlight: 'wait' });
    await until('it listens', async () => (await channels()).length === 1);
  });
});
