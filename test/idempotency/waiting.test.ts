import { request } from 'node:http';
import { expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { passTime, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { gate, gated, shop } from './shop.ts';

const WAIT = { inFlight: 'wait' } as const;

/** Delays the reply that grants the next attempt of a kit until `work` is done. */
function beforeGrant({ client }: { readonly client: object | null }, work: () => Promise<void>): void {
  if (client === null) expect.unreachable();
  const send = Reflect.get(client, 'sendCommand') as (...args: unknown[]) => Promise<unknown>;
  let isOver = false;
  Reflect.set(client, 'sendCommand', async (...args: unknown[]) => {
    const reply = await send.apply(client, args);
    const isGrant = Array.isArray(reply) && reply[1] === 0;
    if (isGrant && !isOver) {
      isOver = true;
      await work();
    }
    return reply;
  });
}

onEveryStore('A retry that waits for the first request', (makeKit) => {
  it('a waiting retry gets the response of the first request', async () => {
    const { handler, open, begun } = gated();
    const { order, runs } = await shop(makeKit(), WAIT, handler);
    const first = order('k');
    await begun;
    let settled = 0;
    const repeats = Array.from({ length: 5 }, () => order('k').finally(() => settled++));
    expect(settled).toBe(0);
    open();
    expect((await first).headers['idempotent-replayed']).toBeUndefined();
    for (const repeat of await Promise.all(repeats)) {
      expect([repeat.status, repeat.headers['idempotent-replayed']]).toEqual([201, 'true']);
    }
    expect(runs()).toBe(1);
  });

  it('a waiting retry waits longer than a lease if the first request runs longer', async () => {
    const kit = makeKit();
    const { handler, open, begun } = gated();
    const { order, runs } = await shop(kit, { ...WAIT, lease: 60_000 }, handler);
    const refusing = await shop(kit, { lease: 60_000 });
    stopTime();
    const first = order('k');
    await begun;
    let isSettled = false;
    const repeat = order('k').finally(() => {
      isSettled = true;
    });
    for (let third = 1; third <= 8; third++) {
      await passTime(20_000);
      expect((await refusing.order('k')).status).toBe(409);
    }
    expect(isSettled).toBe(false);
    open();
    await until('it is answered', async () => {
      await passTime(100);
      return isSettled;
    });
    expect([(await first).status, (await repeat).headers['idempotent-replayed'], runs()]).toEqual([
      201,
      'true',
      1,
    ]);
  });

  it('a waiting retry runs when an earlier attempt was broken off, or its response is not final', async () => {
    const { order, runs } = await shop(makeKit(), { ...WAIT, lease: '300ms' }, (req, res) => {
      const { attempt } = req.idempotency ?? {};
      if (attempt === 1) setTimeout(() => res.destroy(), 50);
      else if (attempt === 2) setTimeout(() => res.status(503).end(), 50);
      else res.json({ attempt });
    });
    const first = order('k').catch(() => 'broken off');
    await until('it runs', () => runs() === 1);
    const answers = await Promise.all([order('k'), order('k')]);
    expect(await first).toBe('broken off');
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 503]);
    expect(runs()).toBe(3);
  });

  it("many middleware with inFlight: 'wait' cause no warning about leaked listeners", async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => void warnings.push(warning);
    process.on('warning', note);
    onTestFinished(() => void process.off('warning', note));
    const kit = makeKit();
    for (let turn = 0; turn < 20; turn++) kit.idempotency({ inFlight: 'wait' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(warnings).toEqual([]);
  });

  it('a waiting retry gets 503 when the kit is closed', async () => {
    const kit = makeKit();
    const { handler, begun } = gated();
    const { order } = await shop(kit, { ...WAIT, lease: '1h' }, handler);
    void order('k').catch(() => undefined);
    await begun;
    const repeat = order('k');
    // No event shows that the retry waits; if the kit closed too early, it would be refused as well.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await kit.close({ timeout: '100ms' });
    expect((await repeat).status).toBe(503);
  });

  it.each(['deny', 'allow'] as const)(
    'kit.close() waits for the first request and its record, and retries get 503 meanwhile (onError: %s)',
    async (onError) => {
      const kit = makeKit();
      const { handler, open, begun } = gated();
      const { order, runs } = await shop(kit, { ...WAIT, onError }, handler);
      const errors = eventsOf(kit, 'error');
      const first = order('k');
      await begun;
      let isClosed = false;
      const closed = kit.close({ timeout: '2m' }).then(() => {
        isClosed = true;
      });
      expect((await order('k')).status).toBe(503);
      expect((await order('another')).status).toBe(503);
      expect(runs()).toBe(1);
      expect(isClosed).toBe(false);
      open();
      expect((await first).status).toBe(201);
      await closed;
      expect(errors).toMatchObject([{ error: { code: 'ERR_REDIS_KIT_CLOSED' } }]);
    },
  );

  it('a waiting retry whose client has disconnected never runs', async () => {
    const { handler, begun } = gated();
    const kit = makeKit();
    const { order, runs, address } = await shop(kit, { ...WAIT, lease: '400ms', maxRun: '100ms' }, handler);
    void order('k');
    await begun;
    const headers = { 'Idempotency-Key': 'k', 'Content-Type': 'application/json' };
    const client = request(`${address}/orders`, { method: 'POST', headers }).on('error', () => undefined);
    client.end('{"item":"tea"}');
    await new Promise((resolve) => setTimeout(resolve, 100));
    client.destroy();
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(runs()).toBe(1);
  });
});

describeWithServers('A retry that waits in another process', () => {
  async function startTwo(options: KitOptions = {}) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const prefix = testPrefix();
    const make = () => kitForTest({ url: server.url, prefix, ...options });
    return { server, kits: [make(), make()] as const };
  }

  /** Waits until a record shows that a retry waits for it. */
  function waits({ url }: RedisServer): Promise<void> {
    return withPlainClient(url, (client) =>
      until('a repeat waits', async () => {
        const keys = await client.keys('*:idempotency:*');
        const values = await Promise.all(keys.map((key) => client.get(key)));
        return values.some((value) => value?.startsWith('I\u0001R\u0001'));
      }),
    );
  }

  it('a waiting retry sends only two commands, since a message wakes the retry', async () => {
    const { server, kits } = await startTwo();
    const { handler, open, begun } = gated();
    const there = await shop(kits[0], { ...WAIT, lease: '1h' }, handler);
    const here = await shop(kits[1], { ...WAIT, lease: '1h' });
    // Loads the scripts into the server, and subscribes both kits.
    await here.order('warm-up');
    await here.order('warm-up');
    await withPlainClient(server.url, (client) =>
      until('both listen', async () => {
        const [channel = ''] = await client.pubSubChannels('t-*');
        return (await client.pubSubNumSub([channel]))[channel] === 2;
      }),
    );
    const first = there.order('k');
    await begun;
    const commands = await countCommands(server.url, async () => {
      // From here on time stands still, so only the message of the first request wakes the retry, and no poll.
      stopTime();
      const repeat = here.order('k');
      await waits(server);
      await passTime(4_000);
      open();
      expect((await repeat).headers['idempotent-replayed']).toBe('true');
      await first;
    });
    expect(commands.filter(([name]) => name === 'EVALSHA')).toHaveLength(3);
    expect(here.runs()).toBe(1);
  });

  it("a waiting retry gets 503 when Redis becomes unavailable, even with onError: 'allow'", async () => {
    const { server, kits } = await startTwo({ commandTimeout: '300ms' });
    const { handler, open, begun } = gated();
    const options = { ...WAIT, onError: 'allow' } as const;
    const there = await shop(kits[0], options, handler);
    const here = await shop(kits[1], options);
    const first = there.order('k');
    await begun;
    const repeat = here.order('k');
    await waits(server);
    await server.kill();
    expect((await repeat).status).toBe(503);
    open();
    expect((await first).status).toBe(201);
    expect(here.runs()).toBe(0);
  });

  it('a waiting retry whose client leaves just before its attempt is granted never runs', async () => {
    const { server, kits } = await startTwo();
    const { handler, open, begun } = gated();
    const there = await shop(kits[0], { ...WAIT, store: () => false }, handler);
    const closed = gate();
    const here = await shop(kits[1], {
      ...WAIT,
      above: [(_req, res, next) => next(void res.on('close', closed.open))],
    });
    const first = there.order('k');
    await begun;
    const headers = { 'Idempotency-Key': 'k', 'Content-Type': 'application/json' };
    const client = request(`${here.address}/orders`, { method: 'POST', headers }).on(
      'error',
      () => undefined,
    );
    beforeGrant(kits[1], async () => {
      client.destroy();
      await closed.opened;
    });
    client.end('{"item":"tea"}');
    await waits(server);
    open();
    await first;
    await closed.opened;
    let further = await here.order('k');
    await until('a further retry is answered', async () => {
      if (further.status === 201) return true;
      further = await here.order('k');
      return false;
    });
    expect(further.headers['idempotent-replayed']).toBeUndefined();
    expect(JSON.parse(further.text)).toEqual({ run: 1, key: 'k', attempt: 2 });
  });

  it('a waiting retry gets the response even if Redis delivers no message', async () => {
    const { server, kits } = await startTwo();
    await withPlainClient(server.url, (client) =>
      client.sendCommand(['ACL', 'SETUSER', 'default', 'resetchannels']),
    );
    const { handler, open, begun } = gated();
    const errors = eventsOf(kits[1], 'error');
    const there = await shop(kits[0], WAIT, handler);
    const here = await shop(kits[1], WAIT);
    const first = there.order('k');
    await begun;
    const repeat = here.order('k');
    await waits(server);
    open();
    expect([(await first).status, (await repeat).headers['idempotent-replayed']]).toEqual([201, 'true']);
    expect(errors.filter(({ feature }) => feature === 'idempotency')).toEqual([]);
  });
});
