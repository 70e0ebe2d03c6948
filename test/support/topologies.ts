import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import type { KitOptions } from '../../src/index.ts';
import { describeWithServers } from './context.ts';
import { kitForTest } from './kits.ts';
import { type RedisCluster, startCluster, startRedis, startSentinel } from './servers.ts';
import { type MakeKit, onEveryStore } from './stores.ts';
import { describeWithTls, startTlsRedis } from './tls-server.ts';

/** Runs the same tests on `memory:` and on each way to deploy Redis. Every server starts once, before its tests. */
export function onEveryTopology(name: string, tests: (makeKit: MakeKit) => void): void {
  onEveryStore(name, tests);
  describeWithServers(`${name}, on a Cluster with replicas`, () => {
    const options = ({ nodes }: RedisCluster) => ({
      cluster: { nodes: addressesOf(nodes) },
      clientName: 't',
    });
    onServer(() => startCluster({ replicasPerMaster: 1 }), options, tests);
  });
  describeWithServers(`${name}, on a master with sentinels`, () => {
    onServer(
      startSentinel,
      (group) => ({ sentinel: { name: group.name, nodes: addressesOf(group.sentinels) } }),
      tests,
    );
  });
  describeWithTls(`${name}, on a server with TLS and an ACL user`, () => {
    onServer(
      startServerWithUser,
      ({ url, tls }) => ({ url, tls, username: 'app', password: PASSWORD }),
      tests,
    );
  });
  describeWithServers(`${name}, on a unix socket`, () => {
    onServer(startServerOnSocket, ({ path }) => ({ path }), tests);
  });
}

/** Characters that URLs and configuration files treat in a special way. */
const PASSWORD = 'p@ss:w/rd?#%';

function addressesOf(servers: readonly { readonly host: string; readonly port: number }[]) {
  return servers.map(({ host, port }) => ({ host, port }));
}

function startServerWithUser() {
  return startTlsRedis({
    args: ['--user', 'app', 'on', `>${PASSWORD}`, '~t-*', '&t-*', '+@all', '-@admin', '-@dangerous'],
    requiresClientCertificate: true,
  });
}

async function startServerOnSocket() {
  const directory = await mkdtemp(join(tmpdir(), 'redis-kit-test-socket-'));
  const path = join(directory, 'redis.sock');
  const server = await startRedis({ args: ['--unixsocket', path] });
  return {
    path,
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function onServer<Server extends { stop(): Promise<void> }>(
  start: () => Promise<Server>,
  optionsOf: (server: Server) => KitOptions,
  tests: (makeKit: MakeKit) => void,
): void {
  let server: Server | undefined;
  beforeAll(async () => {
    server = await start();
  });
  afterAll(() => server?.stop());
  tests((options) => {
    if (server === undefined) throw new Error('the server of these tests did not start');
    return kitForTest({ ...optionsOf(server), ...options } as KitOptions);
  });
}
