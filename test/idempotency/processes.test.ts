import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { send } from '../support/web.ts';
import { shop } from './shop.ts';

const PREFIX = 't-processes';

/** Much longer than a process on a loaded machine is late with a renewal. */
const LEASE_MS = 3_500;

const UNTIL_LET_GO = `while ((await kit.client.get('outside-go')) === null) await pause(20);`;

function letGo({ url }: RedisServer): Promise<unknown> {
  return withPlainClient(url, (client) => client.set('outside-go', '1'));
}

/** A shop in a process of its own. It prints its port, and counts the runs of its handler in Redis. */
function startShop(url: string, options: string, handler: string) {
  return startProgram(`
    import express from 'express';
    const kit = createRedisKit({ url: '${url}', prefix: '${PREFIX}', commandTimeout: '1m' });
    await kit.ready();
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    kit.on('idempotency:lost', ({ key, attempt }) => console.log('lost', key, attempt));
    const app = express().use(express.json());
    app.post('/', kit.idempotency({ scope: () => 'everybody', ...${options} }), async (req, res) => {
      const run = await kit.client.incr('runs');
      ${handler}
    });
    const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
  `);
}

async function startForTest() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const runs = () => withPlainClient(server.url, async (client) => Number(await client.get('runs')));
  return { server, runs };
}

const order = (port: string, key = 'k') =>
  send(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    body: '{"item":"tea"}',
    headers: { 'Idempotency-Key': key, 'Content-Type': 'application/json' },
  });

describeWithServers('Requests with one key in several processes', () => {
  it.each(['reject', 'wait'])(
    'a handler runs once for 100 requests with one key in two processes, with inFlight %s',
    async (inFlight) => {
      const { server, runs } = await startForTest();
      const handler = `${UNTIL_LET_GO} res.status(201).json({ run, pid: process.pid });`;
      const shops = [1, 2].map(() => startShop(server.url, `{ inFlight: '${inFlight}' }`, handler));
      const ports = await Promise.all(shops.map((each) => each.line()));
      let settled = 0;
      const count = () => settled++;
      const asked = Array.from({ length: 100 }, (_, at) => order(ports[at % 2] ?? ''));
      for (const each of asked) each.then(count, count);
      await until('it runs', async () => (await runs()) === 1);
      if (inFlight === 'reject') await until('all others are refused', () => settled === 99);
      await letGo(server);
      const answers = await Promise.all(asked);
      expect(await runs()).toBe(1);
      const done = answers.filter(({ status }) => status === 201);
      expect(new Set(done.map(({ text }) => text)).size).toBe(1);
      expect(done.filter(({ headers }) => headers['idempotent-replayed'] === undefined)).toHaveLength(1);
      const others = answers.filter(({ status }) => status !== 201).map(({ status }) => status);
      if (inFlight === 'wait') expect(others).toEqual([]);
      else expect(new Set(others)).toEqual(new Set([409]));
      for (const port of ports) expect((await order(port)).text).toBe(done[0]?.text);
      expect(await runs()).toBe(1);
    },
  );

  it('a retry runs as the second attempt one lease after the process of the first was killed, and not before', async () => {
    const { server, runs } = await startForTest();
    const dying = startShop(server.url, `{ lease: ${LEASE_MS} }`, 'await pause(60_000);');
    const port = await dying.line();
    const kit = kitForTest({ url: server.url, prefix: PREFIX });
    const recovered = eventsOf(kit, 'idempotency:recovered');
    const here = await shop(kit, { lease: LEASE_MS });
    void order(port);
    await until('it runs there', async () => (await runs()) === 1);
    const retry = () => here.order('k', { path: '/' });
    const runningUntil = performance.now() + 1.1 * LEASE_MS;
    while (performance.now() < runningUntil) {
      expect((await retry()).status, 'its lease is renewed').toBe(409);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    dying.process.kill('SIGKILL');
    await dying.ended;
    expect((await retry()).status, 'the lease has not ended').toBe(409);
    expect(
      (await here.order('k', { path: '/', body: '{"item":"milk"}' })).status,
      'a crash forgets nothing',
    ).toBe(422);
    await until('a retry runs', async () => (await retry()).status === 201);
    expect(JSON.parse((await retry()).text)).toEqual({ run: 1, key: 'k', attempt: 2 });
    expect(recovered).toEqual([{ key: 'k', attempt: 2 }]);
    expect(here.runs()).toBe(1);
  });

  it('a process that was suspended for longer than its lease does not record its response', async () => {
    const { server, runs } = await startForTest();
    const handler = `${UNTIL_LET_GO} res.send('of the first');`;
    const slow = startShop(server.url, `{ lease: '500ms' }`, handler);
    const port = await slow.line();
    const kit = kitForTest({ url: server.url, prefix: PREFIX });
    const here = await shop(kit, { lease: '500ms' }, (_req, res) => void res.send('of the second'));
    const first = order(port);
    await until('it runs there', async () => (await runs()) === 1);
    slow.process.kill('SIGSTOP');
    const retry = () => here.order('k', { path: '/' });
    await until('it was taken over', async () => (await retry()).text === 'of the second');
    await letGo(server);
    slow.process.kill('SIGCONT');
    expect(await slow.line(), 'the event is emitted').toBe('lost k 1');
    expect((await first).text, 'it has done what it has done').toBe('of the first');
    const { text, headers } = await retry();
    expect([text, headers['idempotent-replayed']]).toEqual(['of the second', 'true']);
    expect((await order(port)).text).toBe('of the second');
  });
});
