import { expect, it, onTestFinished } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProgram } from '../support/program.ts';
import { startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';
import { type Busy, busySite } from './busy.ts';

const WAIT = { wait: '2m' } as const;

/** Counts the waiters in Redis, since the kit does not expose their number. */
function waiting(url: string, { prefix }: Pick<RedisKit, 'prefix'>, count: number): Promise<void> {
  return withPlainClient(url, (client) =>
    until(`${count} wait`, async () => {
      const lines = await client.keys(`${prefix}:concurrency:{ann}:*:line`);
      const lengths = await Promise.all(lines.map((line) => client.zCard(line)));
      return lengths.reduce((sum, length) => sum + length, 0) === count;
    }),
  );
}

onEveryStore('A request that waits for a slot', (makeKit) => {
  it('a waiting request runs when a slot becomes free', async () => {
    const site = await busySite(makeKit(), { ...WAIT, limit: 2 });
    await site.run('/1');
    await site.run('/2');
    const third = site.ask('/3');
    site.end('/1');
    await until('it runs', () => site.running.includes('/3'));
    site.end();
    expect((await third).status).toBe(200);
  });

  it('a waiting request is refused when no slot became free in time', async () => {
    const { run, ask, end } = await busySite(makeKit(), { wait: '150ms' });
    await run('/1');
    expect((await ask('/2')).status).toBe(429);
    end();
    await run('/3');
    end();
  });

  it('a waiting request runs as soon as the lease of a slot ends without a renewal', async () => {
    const { leave, run, end } = await busySite(makeKit(), { ...WAIT, lease: '400ms' });
    await leave('/left');
    await run('/2');
    end();
  });
});

describeWithServers('Waiters for slots', () => {
  async function start(count = 1) {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const prefix = testPrefix();
    const kits = Array.from({ length: count }, () => kitForTest({ url: server.url, prefix }));
    const [kit] = kits as [RedisKit];
    return { server, kit, kits, waits: (waiters: number) => waiting(server.url, kit, waiters) };
  }

  async function queue(site: Busy, paths: readonly string[], waits: (count: number) => Promise<void>) {
    const answers = [];
    for (const [index, path] of paths.entries()) {
      answers.push(site.ask(path));
      await waits(index + 1);
    }
    return answers;
  }

  it('waiters get slots in the order of their arrival', async () => {
    const { kit, waits } = await start();
    const waited = eventsOf(kit, 'concurrency:waited');
    const site = await busySite(kit, { ...WAIT, limit: 2 });
    await site.run('/a');
    await site.run('/b');
    const paths = ['/1', '/2', '/3', '/4', '/5', '/6'];
    const answers = await queue(site, paths, waits);
    for (const _ of paths) {
      const count = site.begun.length;
      site.end(site.running[0]);
      await until('the next one runs', () => site.begun.length === count + 1);
    }
    site.end();
    await Promise.all(answers);
    expect(site.begun.slice(2)).toEqual(paths);
    expect(waited).toHaveLength(paths.length);
    expect(waited[0]).toEqual({ key: 'ann', waitedMs: expect.any(Number) });
  });

  it('a request that arrives when `maxQueue` requests wait is refused at once', async () => {
    const { kit, waits } = await start();
    const site = await busySite(kit, { ...WAIT, maxQueue: 2 });
    await site.run('/a');
    const answers = await queue(site, ['/1', '/2'], waits);
    expect((await site.ask('/3')).status).toBe(429);
    site.end();
    await until('/1 runs', () => site.running.includes('/1'));
    site.end();
    await until('/2 runs', () => site.running.includes('/2'));
    site.end();
    await Promise.all(answers);
  });

  it('waiters leave the queue when their clients disconnect, and never run', async () => {
    const { kit, waits } = await start();
    const site = await busySite(kit, WAIT);
    await site.run('/a');
    const leaving = new AbortController();
    const gone = fetch(`${site.address}/gone`, { signal: leaving.signal }).catch(() => undefined);
    await waits(1);
    const patient = site.ask('/patient');
    await waits(2);
    leaving.abort();
    await gone;
    await waits(1);
    site.end();
    await until('the patient one runs', () => site.running.includes('/patient'));
    site.end();
    expect((await patient).status).toBe(200);
    expect(site.begun).toEqual(['/a', '/patient']);
  });

  it('all waiters get their turn when the limit is raised', async () => {
    const { kit, waits } = await start();
    let limit = 1;
    const site = await busySite(kit, { ...WAIT, limit: () => limit });
    await site.run('/a');
    const answers = await queue(site, ['/1', '/2'], waits);
    limit = 4;
    await site.run('/4');
    await until('all run', () => site.running.length === 4);
    site.end();
    await Promise.all(answers);
  });

  it('waiters get no slot above a limit that was lowered', async () => {
    const { kit, waits } = await start();
    let limit = 2;
    const site = await busySite(kit, { ...WAIT, limit: () => limit });
    await site.run('/a');
    await site.run('/b');
    limit = 1;
    const answers = await queue(site, ['/1', '/2'], waits);
    site.end('/a');
    expect(await site.attempt('/3', 300), 'it waits as well').toBe('waits');
    expect(site.running).toEqual(['/b']);
    site.end('/b');
    for (const path of ['/1', '/2', '/3']) {
      await until(`${path} runs`, () => site.running.includes(path));
      expect(site.running).toEqual([path]);
      site.end(path);
    }
    await Promise.all(answers);
  });

  it('waiters are refused when the kit closes, and closing waits for running requests', async () => {
    const { kit, waits } = await start();
    const site = await busySite(kit, WAIT);
    const { answer } = await site.run('/a');
    const [waiter] = await queue(site, ['/1'], waits);
    let isClosed = false;
    const closed = kit.close({ timeout: '2m' }).then(() => {
      isClosed = true;
    });
    expect((await waiter)?.status).toBe(503);
    expect(isClosed).toBe(false);
    site.end();
    expect((await answer).status).toBe(200);
    await closed;
  });

  it('a request costs two commands with a free slot, one command if refused, and three commands after a wait', async () => {
    const { server, kit, waits } = await start();
    const site = await busySite(kit, { ...WAIT, maxQueue: 1, lease: '1h' });
    const scripts = async (work: () => unknown) =>
      (await countCommands(server.url, work)).filter(([name]) => name === 'EVALSHA').length;
    const warmUp = async () => {
      await site.run('/a');
      const [next] = await queue(site, ['/b'], waits);
      expect((await site.ask('/c')).status).toBe(429);
      site.end();
      await until('/b runs', () => site.running.includes('/b'));
      site.end();
      await next;
    };
    await warmUp();
    expect(
      await scripts(async () => {
        const { answer } = await site.run('/1');
        site.end();
        await answer;
      }),
    ).toBe(2);
    await site.run('/2');
    let next: Promise<unknown> | undefined;
    expect(
      await scripts(async () => {
        [next] = await queue(site, ['/3'], waits);
      }),
    ).toBe(1);
    expect(await scripts(() => site.ask('/4'))).toBe(1);
    expect(
      await scripts(async () => {
        site.end();
        await until('/3 runs', () => site.running.includes('/3'));
        site.end();
        await next;
      }),
      'the release of the slot before, the confirmed handoff, the release',
    ).toBe(3);
  });

  it('waiters of a killed process delay other waiters by about a second at most', async () => {
    const { server, kit, waits } = await start();
    const site = await busySite(kit, WAIT);
    await site.run('/a');
    const doomed = startProgram(`
      import { createServer, get } from 'node:http';
      const kit = createRedisKit({ url: '${server.url}', prefix: '${kit.prefix}', logger: false });
      const limit = kit.concurrency({ key: () => 'ann', limit: 1, wait: '1h' });
      const server = createServer((req, res) => limit(req, res, () => res.end())).listen(0, () => {
        for (let turn = 0; turn < 10; turn++) get({ port: server.address().port, agent: false });
      });
    `);
    await waits(10);
    doomed.process.kill('SIGKILL');
    await doomed.ended;
    const living = site.ask('/1');
    await waits(11);
    const elapsedMs = stopwatch();
    site.end();
    await until('the living one runs', () => site.running.includes('/1'));
    expect(elapsedMs()).toBeLessThan(5_000);
    site.end();
    await living;
  });
});

it('free slots and an empty queue leave no key in Redis', async () => {
  const kit = kitForTest({ url: redisUrl() });
  const site = await busySite(kit, { wait: '100ms' });
  const { answer } = await site.run('/1');
  expect((await site.ask('/2')).status).toBe(429);
  site.end();
  await answer;
  await withPlainClient(redisUrl(), (client) =>
    until('nothing is left', async () => (await client.keys(`${kit.prefix}:*`)).length === 0),
  );
});
