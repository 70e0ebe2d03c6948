import { beforeEach, describe, onTestFinished } from 'vitest';
import type { BorrowedClient } from '../../src/index.ts';
import { CLUSTER_CLIENTS, SENTINEL_CLIENTS, STANDALONE_CLIENTS } from '../support/clients.ts';
import { canStartServers, clusterNodes, redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { startSentinel } from '../support/servers.ts';
import { promisesOfEveryFeature } from './features.ts';

/** The first client of each family. The others are tested by `script/test --full`. */
const CORE = ['a client of node-redis 6', 'a client of ioredis 6'];

const isFull = process.env.REDIS_KIT_TESTS === 'full';

function onClient(name: string, lend: () => Promise<BorrowedClient>): void {
  if (!isFull && !CORE.includes(name)) return;
  describe(`every feature, on ${name}`, () => {
    let client: BorrowedClient;
    beforeEach(async () => {
      client = await lend();
    });
    promisesOfEveryFeature((options) => kitForTest({ client, ...options }));
  });
}

for (const [name, lend] of Object.entries(STANDALONE_CLIENTS)) {
  onClient(name, () => {
    const { hostname, port } = new URL(redisUrl());
    return lend({ host: hostname, port: Number(port) });
  });
}

if (canStartServers()) {
  for (const [name, lend] of Object.entries(CLUSTER_CLIENTS)) onClient(name, () => lend(clusterNodes()));
  for (const [name, lend] of Object.entries(SENTINEL_CLIENTS)) {
    onClient(name, async () => {
      const group = await startSentinel();
      onTestFinished(() => group.stop());
      return lend(group);
    });
  }
}
