import { rm } from 'node:fs/promises';
import { createClient } from 'redis';
import { expect, it, onTestFinished } from 'vitest';
import type { Limiter, RedisKit } from '../../../src/index.ts';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { ALL_WORKS, BY_POLICY, startMixedApp } from '../../support/mixed-app.ts';
import { withPlainClient } from '../../support/plain-client.ts';
import { startProxy } from '../../support/proxy.ts';
import { type RedisServer, startRedis } from '../../support/servers.ts';
import { until } from '../../support/until.ts';

const IDS = Array.from({ length: 20 }, (_, index) => `id-${index}`);

async function startForTest(...args: readonly string[]): Promise<RedisServer> {
  const server = await startRedis({ args });
  onTestFinished(() => server.stop());
  return server;
}

function send({ url }: { readonly url: string }, ...command: readonly string[]): Promise<string> {
  return withPlainClient(url, async (client) => String(await client.sendCommand([...command])));
}

/** A master and its replica, behind a proxy that leads to the master. */
async function startPair() {
  const sync = ['--repl-diskless-sync-delay', '0'];
  const [first, second] = await Promise.all([startForTest(...sync), startForTest(...sync)]);
  await send(second, 'REPLICAOF', first.host, String(first.port));
  await until('the replica is in step', async () =>
    (await send(second, 'INFO', 'replication')).includes('master_link_status:up'),
  );
  const proxy = await startProxy(first);
  /** Exchanges the roles. The proxy leads to the old master until `pointTo`. */
  const failOver = async () => {
    await send(second, 'REPLICAOF', 'NO', 'ONE');
    await send(first, 'REPLICAOF', second.host, String(second.port));
  };
  return { first, second, proxy, failOver };
}

const limiters = new WeakMap<RedisKit, Limiter>();

function limiterOf(kit: RedisKit): Limiter {
  const limiter =
    limiters.get(kit) ?? kit.limiter({ algorithm: 'sliding-window', limit: 1_000, window: '1h', name: 'a' });
  limiters.set(kit, limiter);
  return limiter;
}

async function usedOnce(kit: RedisKit): Promise<void> {
  const limiter = limiterOf(kit);
  const decisions = await Promise.all(IDS.map((id) => limiter.consume(id)));
  for (const { used, degraded } of decisions)
    expect({ used, degraded }).toEqual({ used: 1, degraded: false });
  for (const id of IDS) expect((await limiter.peek(id)).used, 'no command ran twice').toBe(1);
}

function causesOf(downs: readonly { readonly error: Error }[]): readonly string[] {
  return downs.map(({ error }) => /refuses commands: (\w+)/.exec(error.message)?.[1] ?? error.message);
}

describeWithServers('a server that refuses commands since it is the wrong one', () => {
  it('commands follow a failover behind one address: none fails, and none runs twice', async () => {
    const { second, proxy, failOver } = await startPair();
    const kit = kitForTest({ url: proxy.url });
    const [ups, downs] = [eventsOf(kit, 'connection:up'), eventsOf(kit, 'connection:down')];
    const breaker = eventsOf(kit, 'connection:breaker');
    await kit.ready();
    await limiterOf(kit).consume('ann');
    await until('the replica has the count', async () => (await send(second, 'DBSIZE')) !== '0');
    await failOver();
    proxy.pointTo(second);
    await usedOnce(kit);
    expect(causesOf(downs)).toEqual(['READONLY']);
    await until('the recovery is emitted', () => ups.length === 2);
    expect(breaker).toEqual([]);
    expect((await limiterOf(kit).peek('ann')).used, 'data of before the failover').toBe(1);
  });

  it('every feature follows its policy while the address leads to a replica, and works soon after the switch', async () => {
    const { first, second, proxy, failOver } = await startPair();
    const { kit, round, expectRecovery } = await startMixedApp({ url: proxy.url });
    const [ups, downs] = [eventsOf(kit, 'connection:up'), eventsOf(kit, 'connection:down')];
    const breaker = eventsOf(kit, 'connection:breaker');
    await expectRecovery();
    await failOver();
    await until('the breaker opens', async () => {
      await round();
      return breaker.length > 0;
    });
    for (let times = 0; times < 5; times++) expect(await round()).toEqual(BY_POLICY);
    proxy.pointTo(second);
    await expectRecovery(2_500);
    expect(causesOf(downs)).toEqual(['READONLY']);
    expect(ups).toHaveLength(2);
    expect(breaker.map(({ state }) => state)).toEqual(['open', 'closed']);
    const subscribers = (server: RedisServer) => send(server, 'CLIENT', 'LIST', 'TYPE', 'pubsub');
    await until('the subscriber follows', async () => (await subscribers(second)) !== '');
    expect(await subscribers(first)).toBe('');
  });

  it('a replica that has lost its master is replaced as well', async () => {
    const { first, second, proxy, failOver } = await startPair();
    const kit = kitForTest({ url: proxy.url });
    const downs = eventsOf(kit, 'connection:down');
    await kit.ready();
    await failOver();
    await send(first, 'CONFIG', 'SET', 'replica-serve-stale-data', 'no');
    await send(first, 'REPLICAOF', '127.0.0.1', '1');
    proxy.pointTo(second);
    await usedOnce(kit);
    expect(causesOf(downs)).toEqual([expect.stringMatching(/^(MASTERDOWN|READONLY)$/)]);
  });

  it('a server that refuses a PING in place of a frozen master is replaced as well', async () => {
    const { first, second, proxy } = await startPair();
    const orphan = await startForTest('--replica-serve-stale-data', 'no', '--replicaof', '127.0.0.1', '1');
    const kit = kitForTest({ url: proxy.url, commandTimeout: '500ms' });
    const downs = eventsOf(kit, 'connection:down');
    const breaker = eventsOf(kit, 'connection:breaker');
    const works = async () => !(await limiterOf(kit).consume('ann')).degraded;
    await until('the kit works', works);
    first.freeze();
    await until('the breaker opens', async () => !(await works()) && breaker.length > 0);
    proxy.pointTo(orphan);
    proxy.sever();
    proxy.mend();
    await until('the refusal is emitted', () => causesOf(downs).includes('MASTERDOWN'));
    await send(second, 'REPLICAOF', 'NO', 'ONE');
    proxy.pointTo(second);
    await until('the kit works again', works);
    expect(breaker.map(({ state }) => state)).toEqual(['open', 'closed']);
  });

  it('a borrowed client is connected again by its own strategy, and keeps a socket that it would not replace', async () => {
    const { second, proxy, failOver } = await startPair();
    const [client, stubborn] = await Promise.all([borrow(proxy), borrow(proxy, false)]);
    const [kit, other] = [kitForTest({ client }), kitForTest({ client: stubborn, commandTimeout: '500ms' })];
    await Promise.all([kit.ready(), other.ready()]);
    await failOver();
    proxy.pointTo(second);
    await usedOnce(kit);
    expect((await limiterOf(other).consume('ann')).degraded).toBe(true);
    expect([stubborn.isReady, await stubborn.ping()]).toEqual([true, 'PONG']);
  });
});

async function borrow({ url }: { readonly url: string }, reconnectStrategy?: false) {
  const client = createClient({ url, socket: reconnectStrategy === undefined ? {} : { reconnectStrategy } });
  client.on('error', () => undefined);
  onTestFinished(() => client.destroy());
  return client.connect();
}

describeWithServers('a server that refuses commands for a time', () => {
  it('every feature follows its policy while Redis loads its data', async () => {
    const args = [
      '--key-load-delay',
      '20000',
      '--loading-process-events-interval-bytes',
      '1024',
      '--rdbcompression',
      'no',
    ];
    const server = await startForTest(...args);
    const value = 'x'.repeat(1_024);
    await withPlainClient(server.url, async (client) => {
      await Promise.all(Array.from({ length: 100 }, (_, index) => client.set(`outside-${index}`, value)));
      await client.sendCommand(['SAVE']);
    });
    const { kit, round, expectRecovery } = await startMixedApp({ url: server.url });
    const [ups, downs] = [eventsOf(kit, 'connection:up'), eventsOf(kit, 'connection:down')];
    await expectRecovery();
    await server.kill();
    await until('the loss is noticed', () => downs.length > 0);
    await server.restart();
    await until('the features follow their policies', async () => (await round()).session === 'answers 503');
    expect(await round()).toEqual(BY_POLICY);
    await until('the data is loaded', async () =>
      (await send(server, 'INFO', 'persistence')).includes('loading:0'),
    );
    await expectRecovery(2_500);
    await until('the recovery is emitted', () => ups.length === 2, 2_500);
    expect(downs, 'one outage, from the crash to the end of the loading').toHaveLength(1);
  });

  it.each([
    {
      word: 'MISCONF',
      async begin(server: RedisServer) {
        const { dir = '' } = await withPlainClient(server.url, (client) => client.configGet('dir'));
        await rm(dir, { recursive: true });
        await send(server, 'CONFIG', 'SET', 'save', '3600 1');
        await send(server, 'BGSAVE');
        await until('the snapshot has failed', async () =>
          (await send(server, 'INFO', 'persistence')).includes('rdb_last_bgsave_status:err'),
        );
      },
      end: ['stop-writes-on-bgsave-error', 'no'],
    },
    {
      word: 'NOREPLICAS',
      begin: (server: RedisServer) => send(server, 'CONFIG', 'SET', 'min-replicas-to-write', '1'),
      end: ['min-replicas-to-write', '0'],
    },
  ])(
    'a feature that only reads works and others follow their policies while Redis refuses writes with $word',
    async ({ word, begin, end }) => {
      const server = await startForTest();
      const { kit, round, expectRecovery } = await startMixedApp({ url: server.url, commandTimeout: '1m' });
      const [ups, downs] = [eventsOf(kit, 'connection:up'), eventsOf(kit, 'connection:down')];
      const breaker = eventsOf(kit, 'connection:breaker');
      await expectRecovery();
      await begin(server);
      for (let times = 0; times < 3; times++) expect(await round()).toEqual({ ...BY_POLICY, cache: 'works' });
      expect(causesOf(downs)).toEqual([word]);
      await send(server, 'CONFIG', 'SET', ...end);
      await expectRecovery(2_500);
      await until('the recovery is emitted', () => ups.length === 2, 2_500);
      expect([breaker, downs.length]).toEqual([[], 1]);
    },
  );

  it('a connection that has lost its authentication is replaced', async () => {
    const server = await startForTest('--requirepass', 'secret');
    const url = server.url.replace('redis://', 'redis://:secret@');
    const kit = kitForTest({ url });
    const downs = eventsOf(kit, 'connection:down');
    await kit.ready();
    await limiterOf(kit).consume('ann');
    await (kit.client as { sendCommand(command: readonly string[]): Promise<unknown> }).sendCommand([
      'RESET',
    ]);
    expect((await limiterOf(kit).consume('bob')).degraded).toBe(false);
    await usedOnce(kit);
    expect(downs).toHaveLength(1);
    expect(downs[0]?.error.message).toMatch(/NOAUTH|unauthenticated/);
  });

  it('a password that Redis does not accept any more is named, and one that it accepts again is used', async () => {
    const server = await startForTest();
    await send(server, 'ACL', 'SETUSER', 'app', 'on', '>old', '~*', '&*', '+@all');
    const { kit, round, expectRecovery } = await startMixedApp({
      url: server.url.replace('://', '://app:old@'),
      commandTimeout: '5s',
    });
    const downs = eventsOf(kit, 'connection:down');
    await expectRecovery();
    await send(server, 'ACL', 'SETUSER', 'app', 'resetpass', '>new');
    expect(await round(), 'an open connection stays authenticated').toEqual(ALL_WORKS);
    await send(server, 'CLIENT', 'KILL', 'USER', 'app');
    await until('it is down', () => downs.length > 0);
    expect(downs[0]?.error.message).toContain('WRONGPASS');
    expect(await round()).toEqual(BY_POLICY);
    await send(server, 'ACL', 'SETUSER', 'app', '>old');
    await expectRecovery(2_500);
    expect(downs).toHaveLength(1);
  });
});
