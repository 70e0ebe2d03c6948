import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../../support/context.ts';
import { eventsOf } from '../../support/kits.ts';
import { startMixedApp } from '../../support/mixed-app.ts';
import { startProxy } from '../../support/proxy.ts';
import { startRedis } from '../../support/servers.ts';
import { keepingLogger } from '../../support/stores.ts';
import { until } from '../../support/until.ts';

const BEHAVIOUR =
  'session answers 503, rate decides in this process, cache runs the handler, lock answers 503, ' +
  'idempotency answers 503, concurrency decides in this process';

async function startForTest() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const proxy = await startProxy(server);
  const logger = keepingLogger();
  const app = await startMixedApp({ url: proxy.url, logger });
  await app.expectRecovery();
  return { server, proxy, app, logger };
}

describeWithServers('the log of an outage', () => {
  it('the log says once what is wrong and what the features do, and at last how long it was', async () => {
    const { server, app, logger } = await startForTest();
    const downs = eventsOf(app.kit, 'connection:down');
    for (let outage = 1; outage <= 2; outage++) {
      logger.lines.length = 0;
      await server.kill();
      await until('the loss is noticed', () => downs.length === outage);
      for (let times = 0; times < 4; times++) await app.round();
      const lines = logger.lines.filter((line) => line.includes('until it is back'));
      expect(lines).toEqual([
        expect.stringContaining(`(ERR_REDIS_KIT_CONNECTION); until it is back: ${BEHAVIOUR}`),
      ]);
      expect(lines[0]).toMatch(/^Redis cannot be reached: .*127\.0\.0\.1|^Redis cannot be reached: /);
      const features = ['session', 'rate', 'cache', 'lock', 'idempotency', 'concurrency'];
      for (const feature of features) {
        expect(logger.lines.filter((line) => line.startsWith(`${feature}: `))).toHaveLength(1);
      }
      await server.restart();
      await app.expectRecovery();
      const last = logger.lines.filter((line) => line.startsWith('the outage lasted'));
      expect(last).toEqual([
        expect.stringMatching(/^the outage lasted \d+\.\d s; operations without Redis: /),
      ]);
      for (const feature of features) expect(last[0]).toMatch(new RegExp(`\\b${feature} [1-9]`));
    }
  });

  it('a frozen Redis is sent one probe in a second at most', async () => {
    const { proxy, app } = await startForTest();
    const breaker = eventsOf(app.kit, 'connection:breaker');
    proxy.delayReplies(60_000);
    await until('the breaker is open', async () => {
      await app.round();
      return breaker.length > 0;
    });
    const [began, before] = [performance.now(), proxy.pings];
    for (let times = 0; times < 10; times++) await app.round();
    const mostPings = 1 + Math.ceil((performance.now() - began) / 1_000);
    expect(proxy.pings - before).toBeLessThanOrEqual(mostPings);
  });
});
