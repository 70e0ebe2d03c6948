import { describe, expect, it } from 'vitest';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { until } from '../support/until.ts';

function start() {
  const kit = kitForTest({ url: redisUrl() });
  const key = `${kit.prefix}:log:{room}:chat`;
  return { kit, key, log: kit.log<number>('chat', { ttl: '1h' }), errors: eventsOf(kit, 'error') };
}

const codesOf = (errors: readonly { readonly error: Error }[]) =>
  errors.map(({ error }) => (error as { code?: string }).code);

describe('A log with data that the kit has not written', () => {
  it('a value of another type counts as absent, is reported once, and is replaced by the next append', async () => {
    const { key, log, errors } = start();
    await withPlainClient(redisUrl(), (client) => client.set(key, 'text', { EX: 600 }));
    expect(await log.last('room', 1)).toEqual([]);
    expect(await log.after('room', '0-0')).toEqual([]);
    expect(codesOf(errors)).toEqual(['ERR_REDIS_KIT_CORRUPT']);
    expect(errors[0]?.error.message).toContain(key);
    await log.append('room', 1);
    expect(await log.last('room', 9)).toMatchObject([{ event: 1 }]);
  });

  it('clear() deletes a value of another type', async () => {
    const { key, log } = start();
    await withPlainClient(redisUrl(), async (client) => {
      await client.set(key, 'text', { EX: 600 });
      await log.clear('room');
      expect(await client.exists(key)).toBe(0);
    });
  });

  it('entries that are no JSON or have other fields are skipped and reported, in reads and for followers', async () => {
    const { key, log, errors } = start();
    const events: number[] = [];
    await log.append('room', 0);
    await log.follow('room', ({ event }) => events.push(event), { after: '0-0' });
    await withPlainClient(redisUrl(), async (client) => {
      await client.xAdd(key, '*', { 1: 'no JSON' });
      await client.xAdd(key, '*', { message: '{}' });
      await client.xAdd(key, '*', { 1: '1', 2: '2' });
      await client.publish(key, 'not from the kit');
    });
    await log.append('room', 1);
    expect((await log.last('room', 9)).map(({ event }) => event)).toEqual([0, 1]);
    await until('the follower has both', () => events.length === 2);
    expect(events).toEqual([0, 1]);
    expect(codesOf(errors)).toEqual(['ERR_REDIS_KIT_CORRUPT']);
  });

  it('a page of unreadable entries does not end the result of after()', async () => {
    const { key, log } = start();
    const first = await log.append('room', 0);
    await withPlainClient(redisUrl(), async (client) => {
      for (let number = 0; number < 5; number++) await client.xAdd(key, '*', { other: 'x' });
    });
    await log.append('room', 1);
    expect(await log.after('room', first ?? '', 2)).toMatchObject([{ event: 1 }]);
  });

  it('an entry of a newer format rejects reads and stays, and appends continue', async () => {
    const { key, log } = start();
    await log.append('room', 0);
    await withPlainClient(redisUrl(), (client) => client.xAdd(key, '*', { 2: 'in a format to come' }));
    const newer = { code: 'ERR_REDIS_KIT_NEWER_FORMAT' };
    await expect(log.last('room', 9)).rejects.toMatchObject(newer);
    await expect(log.after('room', '0-0')).rejects.toMatchObject(newer);
    const cursor = await log.append('room', 1);
    expect(await log.last('room', 1)).toMatchObject([{ cursor, event: 1 }]);
    await expect(log.last('room', 9)).rejects.toMatchObject(newer);
  });
});
