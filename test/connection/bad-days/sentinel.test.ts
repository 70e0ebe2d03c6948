import { beforeAll, expect, it } from 'vitest';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf } from '../../support/kits.ts';
import { countUnderLoad, startMixedApp } from '../../support/mixed-app.ts';
import { type RedisSentinel, startSentinel } from '../../support/servers.ts';

/** A recovery takes at most a second after the decision of the sentinels; the rest is for a busy machine. */
const SOON_MS = 2_500;

let group: RedisSentinel;

beforeAll(async () => {
  group = await startSentinel();
  return () => group.stop();
});

describeWithServers('a bad day of servers with Sentinel', () => {
  it.each(['order', 'kill', 'freeze'] as const)(
    'every feature works again soon after a failover (%s)',
    async (cause) => {
      const nodes = group.sentinels.map(({ host, port }) => ({ host, port }));
      const app = await startMixedApp({ sentinel: { name: group.name, nodes } });
      const downs = eventsOf(app.kit, 'connection:down');
      await app.expectRecovery();
      const load = countUnderLoad(app.kit);
      await load.counted(50);
      await group.failOver(cause);
      await app.expectRecovery(SOON_MS);
      await load.counted(50);
      await load.stop();
      expect(downs.length).toBeLessThanOrEqual(1);
      await group.heal();
    },
  );
});
