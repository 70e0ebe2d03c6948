import { describe, expect, it } from 'vitest';
import type { BorrowedClient, Json } from '../../src/index.ts';
import { CLUSTER_CLIENTS, STANDALONE_CLIENTS } from '../support/clients.ts';
import { canStartServers, clusterNodes, redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';

const { hostname, port } = new URL(redisUrl());

/** Every kind of client that may be borrowed, on the shared server or Cluster. */
const CLIENTS: readonly (readonly [name: string, lend: () => Promise<BorrowedClient>])[] = [
  ...Object.entries(STANDALONE_CLIENTS).map(
    ([name, lend]) => [name, () => lend({ host: hostname, port: Number(port) })] as const,
  ),
  ...Object.entries(canStartServers() ? CLUSTER_CLIENTS : {}).map(
    ([name, lend]) => [name, () => lend(clusterNodes())] as const,
  ),
];

describe('Channels on a borrowed client', () => {
  it.each(CLIENTS)('a channel and a pattern receive the messages that they match on %s', async (_, lend) => {
    const kit = kitForTest({ client: await lend() });
    const byChannel: Json[] = [];
    const byPattern: Json[] = [];
    const stopChannel = await kit.subscribe('chat:é', (data) => byChannel.push(data));
    const stopPattern = await kit.subscribe({ pattern: 'chat:*' }, (...call) => byPattern.push(call));
    for (const data of [1, { text: '☃' }]) await kit.publish('chat:é', data);
    await until('both arrive', () => byChannel.length === 2 && byPattern.length === 2);
    expect(byChannel).toEqual([1, { text: '☃' }]);
    expect(byPattern).toEqual([
      [1, 'chat:é'],
      [{ text: '☃' }, 'chat:é'],
    ]);
    await stopChannel();
    await kit.publish('chat:é', 3);
    await until('the pattern receives it', () => byPattern.length === 3);
    await stopPattern();
    expect(byChannel).toHaveLength(2);
  });
});
