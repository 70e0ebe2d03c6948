import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import {
  connectForTest,
  listenersAt,
  publisherFor,
  receivesAgain,
  recordChannel,
  startAll,
  startServerForTest,
} from '../support/pub-sub.ts';
import { until } from '../support/until.ts';

describeWithServers('a subscriber connection without permission', () => {
  async function startRestricted(...rights: readonly string[]) {
    const server = await startServerForTest();
    const admin = await publisherFor(server);
    const grant = (...more: readonly string[]) => admin.sendCommand(['ACL', 'SETUSER', 'app', ...more]);
    await grant('on', '>secret', '~*', '+@all', 'resetchannels', ...rights);
    const url = server.url.replace('redis://', 'redis://app:secret@');
    const { connection, pubSub, errors } = connectForTest({ url });
    await connection.ready();
    const denials = async () => {
      const log = (await admin.sendCommand(['ACL', 'LOG'])) as unknown as readonly {
        readonly count: number;
      }[];
      return log.reduce((sum, { count }) => sum + Number(count), 0);
    };
    return { admin, grant, pubSub, errors, denials };
  }

  it.each([
    ['to a channel', ['&allowed'], ['&denied']],
    ['at all', ['&*', '-subscribe'], ['+subscribe']],
  ])(
    'a connection without the right to subscribe %s retries with growing pauses and reports one error',
    async (_, rights, missing) => {
      const { admin, grant, pubSub, errors, denials } = await startRestricted(...rights);
      const beganAt = performance.now();
      const recorder = recordChannel(pubSub, 'denied');
      await until('it has asked again', async () => (await denials()) >= 2);
      for (let round = 0; round < 20; round++) {
        recordChannel(pubSub, 'denied').stop();
        await admin.ping();
      }
      const count = await denials();
      const seconds = (performance.now() - beganAt) / 1_000;
      // After one second, then two, then four; a timer may be slightly early.
      const most = 1 + Math.floor(Math.log2(1.1 + seconds));
      expect(count, 'no more often for those who come and go').toBeLessThanOrEqual(most);
      expect(recorder.changes).toEqual([]);
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatchObject({ feature: 'connection', error: { code: 'ERR_REDIS_KIT_REPLY' } });
      expect(errors[0]?.error.message).toMatch(/^listening failed: NOPERM/);
      await grant(...missing);
      await receivesAgain(recorder, admin, 'denied');
    },
  );

  it('a subscriber connection that is denied one channel still receives the others after a reconnect', async () => {
    const { admin, pubSub, errors } = await startRestricted('&allowed');
    const [denied, allowed] = [recordChannel(pubSub, 'denied'), recordChannel(pubSub, 'allowed')];
    await receivesAgain(allowed, admin, 'allowed');
    await admin.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    await until('the loss is noticed', () => allowed.changes.length > 1);
    await receivesAgain(allowed, admin, 'allowed');
    expect([denied.changes, allowed.changes]).toEqual([[], [true, false, true]]);
    expect(errors).toHaveLength(1);
  });

  it('a subscriber connection that the server refuses is reported once and retried', async () => {
    const { server, pubSub, errors, publisher } = await startAll();
    await publisher.configSet('maxclients', '2');
    const recorder = recordChannel(pubSub, 'a');
    await until('it is reported', () => errors.length > 0);
    await pause(700);
    expect(errors).toHaveLength(1);
    expect(errors[0]?.error.message).toBe('listening failed: ERR max number of clients reached');
    await publisher.configSet('maxclients', '100');
    await receivesAgain(recorder, publisher, 'a');
    expect(await listenersAt(server.url)).toHaveLength(1);
  });
});
