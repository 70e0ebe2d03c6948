import { describe, expect, it } from 'vitest';
import { describeWithServers, redisUrl } from '../support/context.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { startServerForTest } from '../support/pub-sub.ts';
import { onEveryStore } from '../support/stores.ts';
import { countCommands } from '../support/wire.ts';

const ttl = '1h';

onEveryStore('A log', (makeKit) => {
  it('a log returns its last entries and the entries after a cursor, oldest first', async () => {
    const log = makeKit().log<{ text: string }>('chat', { ttl });
    const before = Date.now();
    const cursors = [];
    for (const text of ['a', 'b', 'c', 'd']) cursors.push(await log.append('room', { text }));
    const entries = await log.last('room', 3);
    expect(entries.map(({ event }) => event.text)).toEqual(['b', 'c', 'd']);
    expect(entries.map(({ cursor }) => cursor)).toEqual(cursors.slice(1));
    for (const { at, cursor } of entries) {
      expect(cursor.startsWith(`${at}-`)).toBe(true);
      expect(Math.abs(at - before)).toBeLessThan(600_000);
    }
    const after = await log.after('room', entries[0]?.cursor ?? '');
    expect(after).toEqual(entries.slice(1));
    expect(await log.after('room', '0-0', 1)).toEqual(
      await log.last('room', 4).then((all) => all.slice(0, 1)),
    );
    expect(await log.after('room', cursors[3] ?? '')).toEqual([]);
    expect(await log.last('another room', 3)).toEqual([]);
    expect([await log.end('room'), await log.end('another room')]).toEqual([cursors[3], '0-0']);
  });

  it('100 parallel appends are all stored, each under a cursor of its own', async () => {
    const log = makeKit().log<number>('chat', { ttl });
    const numbers = Array.from({ length: 100 }, (_, number) => number);
    const cursors = await Promise.all(numbers.map((number) => log.append('room', number)));
    const stored = new Map((await log.last('room', 1_000)).map(({ cursor, event }) => [cursor, event]));
    expect(stored.size).toBe(100);
    for (const number of numbers) expect(stored.get(cursors[number] ?? '')).toBe(number);
  });

  it('clear() removes the entries of one id, and later cursors are greater', async () => {
    const log = makeKit().log<string>('chat', { ttl });
    const cursor = await log.append('*', 'a');
    await log.append('other', 'b');
    await log.clear('*');
    await log.clear('never used');
    expect(await log.last('*', 10)).toEqual([]);
    expect(await log.last('other', 10)).toMatchObject([{ event: 'b' }]);
    await log.append('*', 'c');
    expect(await log.after('*', cursor ?? '')).toMatchObject([{ event: 'c' }]);
  });

  it('an event of more than 1 MiB is refused, and nothing is stored', async () => {
    const log = makeKit().log<string>('chat', { ttl });
    await log.append('room', 'x'.repeat(2 ** 20 - 2));
    await expect(log.append('room', 'x'.repeat(2 ** 20 - 1))).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_TOO_LARGE',
      status: 413,
    });
    expect(await log.last('room', 9)).toHaveLength(1);
  });

  it('logs of two names and of two namespaces share nothing', async () => {
    const kit = makeKit();
    const logs = [kit.log('a', { ttl }), kit.log('a:b', { ttl }), kit.namespace('n').log('a', { ttl })];
    for (const [index, log] of logs.entries()) await log.append('id', index);
    for (const [index, log] of logs.entries())
      expect(await log.last('id', 9)).toMatchObject([{ event: index }]);
  });
});

describeOnBothEngines('The limit of a log', (url) => {
  it('10,000 appends at limit 500 leave the newest 500 in their order', async () => {
    const log = kitForTest({ url: url() }).log<number>('chat', { limit: 500, ttl });
    for (let batch = 0; batch < 20; batch++) {
      await Promise.all(Array.from({ length: 500 }, (_, index) => log.append('room', batch * 500 + index)));
    }
    const events = (await log.last('room', 10_000)).map(({ event }) => event);
    expect(events).toEqual(Array.from({ length: 500 }, (_, index) => 9_500 + index));
  });

  it('a lower limit applies with the next append', async () => {
    const kit = kitForTest({ url: url() });
    const long = kit.log<number>('chat', { ttl });
    for (let number = 0; number < 10; number++) await long.append('room', number);
    const short = kit.log<number>('chat', { limit: 3, ttl });
    expect(await short.last('room', 100)).toHaveLength(10);
    await short.append('room', 10);
    expect((await short.last('room', 100)).map(({ event }) => event)).toEqual([8, 9, 10]);
  });
});

describe('The lifetime of a log', () => {
  it('each append sets the TTL, null removes it, and a cleared log expires within a minute', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const key = `${kit.prefix}:log:{room}:chat`;
    const [lasting, expiring] = [kit.log('chat', { ttl: null }), kit.log('chat', { ttl: '10m' })];
    await withPlainClient(redisUrl(), async (client) => {
      await expiring.append('room', 1);
      const full = await client.pTTL(key);
      expect(full).toBeGreaterThan(500_000);
      await lasting.append('room', 2);
      expect(await client.pTTL(key)).toBe(-1);
      await lasting.clear('room');
      expect(await client.pTTL(key)).toBeGreaterThan(0);
      expect(await client.pTTL(key)).toBeLessThanOrEqual(60_000);
      await lasting.append('room', 3);
      expect(await client.pTTL(key)).toBe(-1);
      await expiring.append('room', 4);
      expect(await client.pTTL(key)).toBeGreaterThan(500_000);
    });
  });

  it('a log on memory: ends with its TTL, and lasts without one', async () => {
    const clock = { time: 1_000, now: () => clock.time };
    const kit = kitForTest({ url: 'memory:', clock });
    const [hour, ever] = [kit.log('hour', { ttl }), kit.log('ever', { ttl: null })];
    for (const log of [hour, ever]) await log.append('room', 1);
    clock.time += 3_599_999;
    expect(await hour.last('room', 1)).toHaveLength(1);
    clock.time += 1;
    expect(await hour.last('room', 1)).toEqual([]);
    clock.time += 10 ** 12;
    expect(await ever.last('room', 1)).toHaveLength(1);
  });
});

describeWithServers('The commands of a log', () => {
  it('each method is one command, also for the last 10 of 10,000 entries', async () => {
    const server = await startServerForTest();
    const log = kitForTest({ url: server.url }).log<number>('chat', { limit: 20_000, ttl });
    for (let batch = 0; batch < 20; batch++) {
      await Promise.all(Array.from({ length: 500 }, (_, index) => log.append('room', batch * 500 + index)));
    }
    await log.after('room', '0-0', 1);
    await log.clear('other');
    const names = async (work: () => unknown) =>
      (await countCommands(server.url, work)).map(([name]) => name);
    let last: readonly number[] = [];
    const read = async () => {
      last = (await log.last('room', 10)).map(({ event }) => event);
    };
    expect(await names(read)).toEqual(['EVALSHA']);
    expect(last).toEqual(Array.from({ length: 10 }, (_, index) => 9_990 + index));
    expect(await names(() => log.append('room', 1))).toEqual(['EVALSHA']);
    expect(await names(() => log.after('room', '0-0'))).toEqual(['EVALSHA']);
    expect(await names(() => log.end('room'))).toEqual(['EVALSHA']);
    expect(await names(() => log.clear('room'))).toEqual(['EVALSHA']);
  });
});
