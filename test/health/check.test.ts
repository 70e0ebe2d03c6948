import { createClient } from 'redis';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { createRedisKit, type KitOptions, type RedisKit } from '../../src/index.ts';
import { clusterNodes, describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { stopwatch } from '../support/stopwatch.ts';
import { countCommands } from '../support/wire.ts';

/** A machine that runs other work may delay a timer by this much. */
const STALL_MS = 4_000;

let server: RedisServer;

const send = (...command: string[]) => withPlainClient(server.url, (client) => client.sendCommand(command));

async function readyKit(options: Partial<KitOptions> = {}): Promise<RedisKit> {
  const kit = kitForTest({ url: server.url, ...options } as KitOptions);
  await kit.ready();
  return kit;
}

/** Changes a setting of the server until the test ends. */
async function configure(name: string, value: string, before: string): Promise<void> {
  await send('CONFIG', 'SET', name, value);
  onTestFinished(async () => void (await send('CONFIG', 'SET', name, before)));
}

describeWithServers('kit.check()', () => {
  beforeAll(async () => {
    const users = [
      ['--user', 'managed', 'on', '>managed-pw', '~*', '&*', '+@all', '-config'],
      ['--user', 'narrow', 'on', '>narrow-pw', '~*', '&*', '+@all', '-config', '-info'],
    ];
    server = await startRedis({ args: users.flat() });
  });
  afterAll(() => server.stop());

  it('check() returns ok, the mode and the latency of a Redis that works', async () => {
    const kit = await readyKit();
    const result = await kit.check();
    expect(result).toEqual({
      ok: true,
      mode: 'standalone',
      latencyMs: expect.any(Number),
      warnings: expect.any(Array),
    });
    expect(result.latencyMs).toBeGreaterThan(0);
  });

  it('check() returns the mode memory on memory:, and warns in production', async () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(await kit.check()).toEqual({ ok: true, mode: 'memory', warnings: [] });
    const env = process.env.NODE_ENV;
    process.env.NODE_ENV = 'production';
    onTestFinished(() => {
      process.env.NODE_ENV = env;
    });
    const { ok, warnings } = await kitForTest({ url: 'memory:' }).check();
    expect(ok).toBe(true);
    expect(warnings).toEqual([expect.stringMatching(/memory:.*production/)]);
  });

  it('check() leaves no key behind', async () => {
    const kit = await readyKit();
    await kit.check();
    expect(await withPlainClient(server.url, (client) => client.keys(`${kit.prefix}*`))).toEqual([]);
  });

  it('check() of a namespace is that of its kit', async () => {
    const kit = await readyKit();
    expect(await kit.namespace('tenant').check()).toMatchObject({ ok: true, mode: 'standalone' });
  });

  it('concurrent calls of check() share their commands', async () => {
    const kit = await readyKit();
    const commands = await countCommands(server.url, () =>
      Promise.all(Array.from({ length: 20 }, () => kit.check())),
    );
    // MONITOR does not show CONFIG.
    expect(commands.map(([name]) => name).sort()).toEqual(['INFO', 'SET']);
  });

  it('check() warns of a server without persistence, and not of one that saves snapshots', async () => {
    const kit = await readyKit();
    const persistence = async () =>
      (await kit.check()).warnings.filter((each) => each.includes('persistence'));
    expect(await persistence()).toEqual([
      expect.stringContaining('a restart loses sessions and idempotency records'),
    ]);
    await configure('save', '3600 1', '');
    expect(await persistence()).toEqual([]);
  });

  it.each(['allkeys-lru', 'volatile-ttl'])('check() warns of the eviction policy %s', async (policy) => {
    const kit = await readyKit();
    expect((await kit.check()).warnings.join()).not.toContain('maxmemory-policy');
    await configure('maxmemory-policy', policy, 'noeviction');
    expect((await kit.check()).warnings.join('\n')).toMatch(
      new RegExp(`maxmemory-policy is ${policy}: Redis may drop locks, sessions .*set it to noeviction`),
    );
  });

  it('check() is not ok while the server refuses writes because its memory is full', async () => {
    const kit = await readyKit();
    await configure('maxmemory', '1', '0');
    const { ok, error, warnings } = await kit.check();
    expect(ok).toBe(false);
    expect(error).toMatch(/^OOM /);
    expect(warnings.join('\n')).toContain('a full server refuses all writes');
  });

  it('check() warns of a server with known flaws in its script engine', async () => {
    const kit = await readyKit();
    const info = String(await send('INFO', 'server'));
    const isFlawed = /redis_version:7\.0\./.test(info) && !info.includes('valkey_version');
    const flaws = (await kit.check()).warnings.filter((each) => each.includes('CVE-2025-49844'));
    expect(flaws).toHaveLength(isFlawed ? 1 : 0);
  });

  it('check() says which settings a managed Redis does not show', async () => {
    const { host, port } = server;
    const managed = await readyKit({
      url: undefined,
      host,
      port,
      username: 'managed',
      password: 'managed-pw',
    });
    const first = await managed.check();
    expect(first.ok).toBe(true);
    expect(first.warnings).toContainEqual(
      expect.stringMatching(/^the persistence setting `save` could not be read: .*NOPERM/),
    );
    const narrow = await readyKit({ url: undefined, host, port, username: 'narrow', password: 'narrow-pw' });
    const second = await narrow.check();
    expect(second.ok).toBe(true);
    expect(second.warnings).toContainEqual(
      expect.stringMatching(/maxmemory-policy and persistence could not be read: .*NOPERM/),
    );
    expect(JSON.stringify([first, second])).not.toMatch(/managed-pw|narrow-pw/);
  });

  it('check() is not ok on a replica, and says that it is one', async () => {
    const replica = await startRedis({ args: ['--replicaof', server.host, String(server.port)] });
    onTestFinished(() => replica.stop());
    const kit = await readyKit({ url: replica.url, commandTimeout: '2s' });
    const { ok, error, warnings } = await kit.check();
    expect(ok).toBe(false);
    expect(error).toContain('READONLY ');
    expect(warnings).toContainEqual(expect.stringContaining('the server is a replica'));
  });

  it('check() answers within the deadline while Redis is frozen, and is ok again afterwards', async () => {
    const kit = await readyKit({ commandTimeout: '300ms' });
    server.freeze();
    onTestFinished(() => server.thaw());
    const elapsedMs = stopwatch();
    const frozen = await kit.check();
    expect(elapsedMs()).toBeLessThan(300 + STALL_MS);
    expect(frozen).toMatchObject({
      ok: false,
      mode: 'standalone',
      error: expect.stringContaining('did not answer'),
    });
    expect(frozen).not.toHaveProperty('latencyMs');
    server.thaw();
    await expect.poll(() => kit.check(), { timeout: 30_000 }).toMatchObject({ ok: true });
  });

  it('check() answers within the deadline if Redis was never reachable', async () => {
    const kit = kitForTest({ port: await freePort(), commandTimeout: '300ms' });
    const elapsedMs = stopwatch();
    const { ok, error, warnings } = await kit.check();
    expect(elapsedMs()).toBeLessThan(300 + STALL_MS);
    expect({ ok, warnings }).toEqual({ ok: false, warnings: [] });
    expect(error).toMatch(/ECONNREFUSED|not ready within 300 ms/);
  });

  it('check() warns of a remote host without TLS or a password, also behind a borrowed client and a Cluster', async () => {
    // An address of documentation (RFC 5737), which no host has.
    const host = '192.0.2.1';
    const borrowed = createClient({ socket: { host, reconnectStrategy: false } });
    const open: Partial<KitOptions>[] = [
      { url: `redis://${host}` },
      { host },
      { cluster: { nodes: [`redis://${host}`] } },
      { client: borrowed as never },
    ];
    for (const options of open) {
      const { warnings } = await kitForTest({ ...options, commandTimeout: '50ms' } as KitOptions).check();
      expect(warnings.join('\n')).toMatch(
        new RegExp(`^the connection to ${host} is not encrypted.*\n${host} is used without a password`),
      );
    }
    const safe = kitForTest({ url: `rediss://:password@${host}`, commandTimeout: '50ms' });
    expect((await safe.check()).warnings).toEqual([]);
  });

  it.each(['memory:', 'Redis'])('check() of a closed kit on %s resolves and is not ok', async (where) => {
    const url = where === 'Redis' ? server.url : 'memory:';
    const kit = createRedisKit({ url, logger: false });
    const racing = kit.check();
    await kit.close();
    expect(await racing).toMatchObject({ warnings: expect.any(Array) });
    expect(await kit.check()).toEqual({
      ok: false,
      mode: where === 'Redis' ? 'standalone' : 'memory',
      error: 'the kit is closed',
      warnings: [],
    });
  });

  it('check() looks at every master of a Cluster', async () => {
    const kit = kitForTest({ cluster: { nodes: clusterNodes() } });
    await kit.ready();
    const [, changed] = clusterNodes();
    const url = `redis://${changed?.host}:${changed?.port}`;
    const setPolicy = (policy: string) =>
      withPlainClient(url, (client) => client.sendCommand(['CONFIG', 'SET', 'maxmemory-policy', policy]));
    await setPolicy('allkeys-random');
    onTestFinished(async () => void (await setPolicy('noeviction')));
    const { ok, mode, warnings } = await kit.check();
    expect({ ok, mode }).toEqual({ ok: true, mode: 'cluster' });
    expect(warnings).toContainEqual(expect.stringMatching(/allkeys-random.*\(1 of 3 masters\)$/));
    expect(warnings.filter((each) => each.includes('persistence'))).toHaveLength(1);
  });
});

describeWithServers('kit.ready()', () => {
  it('ready() does not resolve while Redis is connected and frozen', async () => {
    const frozen = await startRedis();
    onTestFinished(() => frozen.stop());
    const kit = kitForTest({ url: frozen.url, commandTimeout: '100ms' });
    await kit.ready();
    frozen.freeze();
    const events: string[] = [];
    const ready = kit.ready().then(() => events.push('ready'));
    expect((await kit.check()).ok).toBe(false);
    events.push('thaw');
    frozen.thaw();
    await ready;
    expect(events).toEqual(['thaw', 'ready']);
  });
});
