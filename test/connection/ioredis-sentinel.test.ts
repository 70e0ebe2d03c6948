import { expect, it, onTestFinished } from 'vitest';
import { IOREDIS_NAMES, ioredisForTest } from '../support/clients.ts';
import { describeWithServers } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { listenersAt } from '../support/pub-sub.ts';
import { startSentinel } from '../support/servers.ts';
import { until } from '../support/until.ts';

describeWithServers('a borrowed client of ioredis or iovalkey with `sentinels`', () => {
  it.each(IOREDIS_NAMES)('a client of %s follows the master after the first one was killed', async (name) => {
    const group = await startSentinel();
    onTestFinished(() => group.stop());
    const master = await group.master();
    const sentinels = group.sentinels.map(({ host, port }) => ({ host, port }));
    const client = ioredisForTest(name, master, { sentinels, name: group.name });
    const kit = kitForTest({ client });
    const downs = eventsOf(kit, 'connection:down');
    await kit.ready();
    const held = await kit.locks.acquire('a');
    const next = kit.locks.acquire('a', { wait: '5m' });
    // Each sentinel listens too.
    await until(
      'it listens at the master',
      async () => (await listenersAt(master.url)).length > sentinels.length,
    );
    await until('it waits', async () => (await kit.locks.inspect('a')).waiters === 1);
    await held.release();
    await (await next).release();
    const promoted = await group.failOver('kill');
    await until('it works', () =>
      kit.locks.tryAcquire('b').then(
        async (lock) => (await lock?.release()) === true,
        () => false,
      ),
    );
    const again = await kit.locks.acquire('c');
    const waiting = kit.locks.acquire('c', { wait: '5m' });
    await until(
      'it listens at the new master',
      async () => (await listenersAt(promoted.url)).length > sentinels.length,
    );
    await again.release();
    await (await waiting).release();
    expect(downs.length).toBeLessThanOrEqual(1);
  });
});
