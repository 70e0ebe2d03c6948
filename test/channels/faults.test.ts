import { expect, it } from 'vitest';
import {
  ConnectionError,
  type Json,
  type KitOptions,
  RedisKitError,
  registerRedis,
} from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { connectedClients, startServerForTest } from '../support/pub-sub.ts';
import { freePort } from '../support/servers.ts';
import { passTimeUntilSettled, stopTime } from '../support/time.ts';
import { until } from '../support/until.ts';
import { countCommands } from '../support/wire.ts';

describeWithServers('Channels and a Redis server of their own', () => {
  async function start(options: KitOptions = {}) {
    const server = await startServerForTest();
    const kit = kitForTest({ url: server.url, ...options } as KitOptions);
    await kit.ready();
    return { server, kit };
  }

  it('a publish is one command, and listeners of a channel or a pattern share one subscription', async () => {
    const { server, kit } = await start({ prefix: 't-wire' });
    const commands = await countCommands(server.url, async () => {
      const stops = [];
      for (let listener = 0; listener < 3; listener++) {
        stops.push(
          await kit.subscribe('a', () => undefined),
          await kit.subscribe({ pattern: 'a*' }, () => undefined),
        );
      }
      await kit.publish('a', { n: 1 });
      for (const stop of stops) await stop();
      await until('the subscriptions have ended', () =>
        withPlainClient(server.url, async (client) => (await client.pubSubNumPat()) === 0),
      );
    });
    const ofKit = commands.filter(([name, argument]) => name !== 'HELLO' && argument?.startsWith('t-wire'));
    expect(ofKit).toEqual([
      ['SUBSCRIBE', 't-wire:channel:{a}'],
      ['PSUBSCRIBE', 't-wire:channel:{a*}'],
      ['PUBLISH', 't-wire:channel:{a}', '{"n":1}'],
      ['UNSUBSCRIBE', 't-wire:channel:{a}'],
      ['PUNSUBSCRIBE', 't-wire:channel:{a*}'],
    ]);
  });

  it('a subscription to a channel and one to a pattern survive a restart of Redis', async () => {
    const { server, kit } = await start({ commandTimeout: '300ms' });
    const seen: Json[] = [];
    await kit.subscribe('a', (data) => seen.push(`channel ${data}`));
    await kit.subscribe({ pattern: '?' }, (data) => seen.push(`pattern ${data}`));
    for (let restart = 1; restart <= 2; restart++) {
      await server.kill();
      await expect(kit.publish('a', 'lost')).rejects.toThrow(RedisKitError);
      await server.restart();
      await until('messages arrive again', async () => {
        await kit.publish('a', restart).catch(() => undefined);
        return ['channel', 'pattern'].every((kind) => seen.includes(`${kind} ${restart}`));
      });
    }
    expect(seen.filter((text) => String(text).endsWith('lost'))).toEqual([]);
  });

  it('a subscription to a Redis that cannot be reached rejects after 5 s, and leaves nothing behind', async () => {
    const port = await freePort();
    const kit = kitForTest({ port });
    const seen: Json[] = [];
    stopTime();
    const refused = expect(kit.subscribe('a', (data) => seen.push(data))).rejects.toThrow(ConnectionError);
    await passTimeUntilSettled(refused, 500);
    const server = await startServerForTest({ port });
    await passTimeUntilSettled(kit.ready());
    const stop = await passTimeUntilSettled(kit.subscribe('b', (data) => seen.push(data)));
    await kit.publish('a', 'for the first listener');
    await kit.publish('b', 'for the second listener');
    await until('the second listener is called', () => seen.length > 0);
    expect(seen).toEqual(['for the second listener']);
    const channels = await withPlainClient(server.url, (client) => client.pubSubChannels());
    expect(channels).toEqual([`${kit.prefix}:channel:{b}`]);
    await stop();
  });

  it('a message is rejected while Redis cannot be reached, and nothing of it is sent later', async () => {
    const { server, kit } = await start({ commandTimeout: '200ms' });
    await server.kill();
    await expect(kit.publish('a', 1)).rejects.toThrow(RedisKitError);
    await until('the outage is noticed', () =>
      kit.publish('a', 2).then(
        () => false,
        (error) => error instanceof ConnectionError,
      ),
    );
    await server.restart();
    await kit.ready();
    const seen: Json[] = [];
    await kit.subscribe('a', (data) => seen.push(data));
    await kit.publish('a', 3);
    await until('a message arrives', () => seen.length > 0);
    expect(seen).toEqual([3]);
  });

  it('a subscription and a message that Redis denies reject with the reply of Redis', async () => {
    const { server } = await start();
    await withPlainClient(server.url, (client) =>
      client.sendCommand([
        'ACL',
        'SETUSER',
        'app',
        'on',
        '>secret',
        '~*',
        '+@all',
        'resetchannels',
        '&t-app:*',
      ]),
    );
    const url = server.url.replace('redis://', 'redis://app:secret@');
    const kit = kitForTest({ url, prefix: 't-other' });
    for (const call of [
      () => kit.subscribe('a', () => undefined),
      () => kit.subscribe({ pattern: 'a*' }, () => undefined),
      () => kit.publish('a', 1),
    ]) {
      await expect(call()).rejects.toMatchObject({
        code: 'ERR_REDIS_KIT_REPLY',
        message: expect.stringContaining('NOPERM'),
      });
    }
    // Redis compares a pattern with the rights of a user letter by letter.
    const mine = kitForTest({ url, prefix: 't-app' });
    await (await mine.subscribe('a', () => undefined))();
    await expect(mine.subscribe({ pattern: 'a*' }, () => undefined)).rejects.toThrow('NOPERM');
  });

  it('a subscription that has not begun when the kit closes rejects', async () => {
    const { server, kit } = await start();
    server.freeze();
    const begun = kit.subscribe('a', () => undefined);
    const refused = expect(begun).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    await kit.close({ timeout: 200 });
    await refused;
    server.thaw();
  });

  it('kits of one instance share the subscriber, and each kit ends only its own subscriptions', async () => {
    const server = await startServerForTest();
    const instance = testPrefix();
    registerRedis(instance, { url: server.url });
    const [one, two] = [kitForTest({ instance, prefix: 't-one' }), kitForTest({ instance, prefix: 't-two' })];
    const seen: string[] = [];
    for (const kit of [one, two]) {
      await kit.subscribe({ pattern: '*' }, (data) => seen.push(`${kit.prefix} ${data}`));
    }
    expect(await connectedClients(server.url)).toBe(2);
    for (const kit of [one, two]) await kit.publish('a', 1);
    await until('both arrive', () => seen.length === 2);
    await one.close();
    await two.publish('a', 2);
    await until('the other kit still listens', () => seen.length === 3);
    expect(seen).toEqual(['t-one 1', 't-two 1', 't-two 2']);
  });
});
