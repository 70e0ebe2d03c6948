import { afterAll, beforeAll, expect, it } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { type RedisCluster, startCluster } from '../support/servers.ts';
import { Browser, serveSessions } from './browser.ts';

describeWithServers('sessions on a Cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(() => cluster.stop());

  it('a session on any master of a cluster is loaded, regenerated and destroyed', async () => {
    const kit = kitForTest({ cluster: { nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) } });
    const errors = eventsOf(kit, 'error');
    const port = await serveSessions(kit, { absolute: '1h' });
    const browsers = Array.from({ length: 30 }, () => new Browser(port));

    await Promise.all(browsers.map((browser) => browser.get('/view')));
    const before = browsers.map((browser) => browser.sessionId);
    await Promise.all(browsers.map((browser) => browser.get('/login')));
    await Promise.all(browsers.map((browser) => browser.get('/view')));
    for (const browser of browsers) expect(await browser.data()).toEqual({ userId: 'ann', views: 1 });

    const keysByNode = await Promise.all(
      cluster.nodes.map(({ server }) =>
        withPlainClient(server.url, async (client) => {
          const keys = await client.keys('*');
          for (const key of keys) expect(await client.pTTL(key)).toBeGreaterThan(0);
          return keys;
        }),
      ),
    );
    for (const keys of keysByNode) expect(keys.length).toBeGreaterThan(0);
    const keys = new Keys(kit.prefix);
    const index = keys.userSessions(keys.sessionOwner('ann'));
    const sessions = browsers.map(({ sessionId }) => keys.session(sessionId));
    expect(keysByNode.flat().sort()).toEqual([index, ...sessions].sort());
    for (const id of before) expect(keysByNode.flat()).not.toContain(keys.session(id));

    await Promise.all(browsers.map((browser) => browser.get('/logout')));
    for (const browser of browsers) expect(await browser.data()).toEqual({});
    expect(errors).toEqual([]);
  });
});
