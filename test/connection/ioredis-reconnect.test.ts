import { describe, expect, it } from 'vitest';
import type { Duration } from '../../src/index.ts';
import { IOREDIS_NAMES, type IoredisOptions, ioredisForTest } from '../support/clients.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startProxy } from '../support/proxy.ts';
import { startServerForTest } from '../support/pub-sub.ts';
import { until } from '../support/until.ts';

describeWithServers('a server behind a stable address that becomes a replica', () => {
  describe.each(IOREDIS_NAMES)('with a client of %s', (name) => {
    /** A kit whose client is connected to a server that has become a replica; its address leads to the new master. */
    async function start(options: IoredisOptions, commandTimeout = '10s' as Duration) {
      const [old, promoted] = [await startServerForTest(), await startServerForTest()];
      const target = { host: old.host, port: old.port };
      const { hostname, port } = new URL((await startProxy(target)).url);
      const client = ioredisForTest(name, { host: hostname, port: Number(port) }, options);
      const kit = kitForTest({ client, commandTimeout });
      await (await kit.locks.tryAcquire('a'))?.release();
      target.port = promoted.port;
      await withPlainClient(old.url, (node) =>
        node.sendCommand(['REPLICAOF', promoted.host, `${promoted.port}`]),
      );
      return kit;
    }

    it('the client is connected again, to the new master', async () => {
      const kit = await start({});
      await until('the kit works', () =>
        kit.locks.tryAcquire('a').then(
          async (lock) => (await lock?.release()) === true,
          () => false,
        ),
      );
    });

    it('the client stays as it is if its `reconnectOnError` says so', async () => {
      const kit = await start({ reconnectOnError: () => false }, '300ms');
      for (let command = 0; command < 3; command++) {
        await expect(kit.locks.tryAcquire('a')).rejects.toThrow('READONLY');
      }
    });
  });
});
