import { beforeAll, expect, it, onTestFinished } from 'vitest';
import type { KitOptions } from '../../../src/index.ts';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import {
  ALL_WORKS,
  BY_POLICY,
  countUnderLoad,
  type MixedApp,
  startMixedApp,
} from '../../support/mixed-app.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startProxy } from '../../support/proxy.ts';
import { type RedisServer, startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';

/** A recovery takes at most a second after Redis's own; the rest is for a busy machine. */
const SOON_MS = 2_500;

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
  return () => server.stop();
});

function send(...command: readonly string[]): Promise<string> {
  return withPlainClient(server.url, async (client) => String(await client.sendCommand([...command])));
}

/** A configuration that is restored when the test ends. */
async function configure(name: string, value: string): Promise<void> {
  const { [name]: before = '' } = await withPlainClient(server.url, (client) => client.configGet(name));
  onTestFinished(() => send('CONFIG', 'SET', name, before).then(() => undefined));
  await send('CONFIG', 'SET', name, value);
}

async function startWorkingApp(options: KitOptions = {}): Promise<MixedApp> {
  const app = await startMixedApp({ url: server.url, ...options } as KitOptions);
  await app.expectRecovery();
  return app;
}

describeWithServers('a bad day of a single Redis', () => {
  it('a kit survives the kill of every connection under load, and no command runs twice', async () => {
    const app = await startWorkingApp();
    const { counted, expectAtMostOnce } = countUnderLoad(app.kit);
    for (let kill = 0; kill < 3; kill++) {
      await counted(200);
      for (const type of ['normal', 'pubsub']) await send('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
    }
    await app.expectRecovery(SOON_MS);
    await counted(200);
    await expectAtMostOnce();
  });

  it('a request waits for the end of a short CLIENT PAUSE, and a long one is an outage', async () => {
    const app = await startWorkingApp();
    await send('CLIENT', 'PAUSE', '200', 'ALL');
    expect(await app.round(), 'within the deadline').toEqual(ALL_WORKS);
    await send('CLIENT', 'PAUSE', '1500', 'ALL');
    await app.round();
    expect(await app.round()).toEqual(BY_POLICY);
    await app.expectRecovery(1_500 + SOON_MS);
  });

  it('a reply that is cut in its middle is a lost reply, and the next request works', async () => {
    const proxy = await startProxy(server);
    const kit = kitForTest({ url: proxy.url });
    const limiter = kit.limiter({ algorithm: 'sliding-window', limit: 1_000, window: '1h', name: 'cut' });
    const works = () => limiter.peek('ann').then(Boolean, () => false);
    let [sent, lost] = [0, 0];
    await until('three replies to commands were cut', async () => {
      await until('the kit is connected', works);
      proxy.loseNextReply(3);
      sent++;
      if ((await limiter.consume('ann')).degraded) lost++;
      return lost === 3;
    });
    await until('the kit is connected', works);
    const { used } = await limiter.peek('ann');
    expect(used, 'no command ran twice').toBeLessThanOrEqual(sent);
    expect(used, 'each command that was answered ran').toBeGreaterThanOrEqual(sent - lost);
  });

  it('every feature follows its policy while an address accepts connections and never answers', async () => {
    const proxy = await startProxy(server);
    const app = await startWorkingApp({ url: proxy.url });
    const downs = eventsOf(app.kit, 'connection:down');
    proxy.fallSilent();
    await until('the features follow their policies', async () => (await app.round()).session !== 'works');
    await until('the connection is down', () => downs.length > 0, 15_000);
    for (let times = 0; times < 3; times++) expect(await app.round()).toEqual(BY_POLICY);
    proxy.sever();
    proxy.mend();
    await app.expectRecovery(SOON_MS);
    expect(downs).toHaveLength(1);
  });

  it('every feature follows its policy while Redis is out of memory, and works with memory', async () => {
    const app = await startWorkingApp({ commandTimeout: '1m' });
    const breaker = eventsOf(app.kit, 'connection:breaker');
    await configure('maxmemory-policy', 'noeviction');
    await configure('maxmemory', '1mb');
    const { cache, ...policies } = BY_POLICY;
    for (let times = 0; times < 5; times++) expect(await app.round()).toMatchObject(policies);
    await send('CONFIG', 'SET', 'maxmemory', '0');
    expect(await app.round(), cache).toEqual(ALL_WORKS);
    expect(breaker, 'the server answers').toEqual([]);
  });

  it('every feature follows its policy while the rights of its user are missing', async () => {
    await send('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all');
    const app = await startWorkingApp({
      url: server.url.replace('://', '://app:secret@'),
      commandTimeout: '1m',
    });
    const errors = eventsOf(app.kit, 'error');
    await send('ACL', 'SETUSER', 'app', '-evalsha', '-eval');
    for (let times = 0; times < 5; times++) expect(await app.round()).toEqual(BY_POLICY);
    expect(errors.filter(({ feature }) => feature === 'session')).toHaveLength(1);
    await send('ACL', 'SETUSER', 'app', '+@all');
    expect(await app.round()).toEqual(ALL_WORKS);
  });

  it('each feature works while Redis evicts keys, and an evicted value counts as absent', async () => {
    const app = await startWorkingApp({ commandTimeout: '1m' });
    await configure('maxmemory-policy', 'allkeys-random');
    const used = Number(/used_memory:(\d+)/.exec(await send('INFO', 'memory'))?.[1]);
    await configure('maxmemory', String(used + 2 ** 20));
    await withPlainClient(server.url, async (client) => {
      for (let batch = 0; batch < 20; batch++) {
        const keys = Array.from({ length: 100 }, (_, index) => `outside-${batch}-${index}`);
        await Promise.all(keys.map((key) => client.set(key, 'x'.repeat(1_024))));
        const { session, rateLimit } = await app.round();
        expect({ session, rateLimit }).toEqual({ session: 'works', rateLimit: 'works' });
      }
    });
    expect(await send('INFO', 'stats')).not.toContain('evicted_keys:0\r');
    await send('FLUSHALL');
    await app.expectRecovery(SOON_MS);
  });

  it('a kit works beside a server that closes idle connections after a second', async () => {
    await configure('timeout', '1');
    const app = await startWorkingApp();
    const downs = eventsOf(app.kit, 'connection:down');
    const closed = new Promise((resolve) =>
      (app.kit.client as unknown as NodeJS.EventEmitter).once('error', resolve),
    );
    await closed;
    await app.expectRecovery(SOON_MS);
    expect(downs).toEqual([]);
  });
});

describeWithServers('a crash of a single Redis under load', () => {
  it('a kit that is under load uses a killed Redis again soon after its restart', async () => {
    const app = await startWorkingApp();
    const { counted } = countUnderLoad(app.kit);
    for (let kill = 0; kill < 2; kill++) {
      await counted(200);
      await server.kill();
      await until('the features follow their policies', async () => (await app.round()).session !== 'works');
      expect(await app.round()).toEqual(BY_POLICY);
      await server.restart();
      await app.expectRecovery(SOON_MS);
    }
  });
});
