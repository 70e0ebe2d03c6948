import { describe, expect, it } from 'vitest';
import { kitForTest } from '../support/kits.ts';
import { onEveryStore } from '../support/stores.ts';

const ttl = '1h';

interface Message {
  readonly text: string;
  readonly by?: string;
}

onEveryStore('The hooks of a log', (makeKit) => {
  it('the hooks of an append run in their order, and each may replace the event', async () => {
    const order: string[] = [];
    const log = makeKit().log<Message>('chat', {
      ttl,
      onAppend: [
        async (context, next) => {
          order.push(`first ${context.event.text}`);
          context.event = { ...context.event, by: 'first' };
          const cursor = await next();
          order.push(`first again ${typeof cursor}`);
          return cursor;
        },
        (context, next) => {
          order.push(`second ${context.event.by} in ${context.id}`);
          context.event = { ...context.event, text: context.event.text.toUpperCase() };
          return next();
        },
      ],
    });
    const cursor = await log.append('room', { text: 'a' });
    expect(await log.last('room', 9)).toMatchObject([{ cursor, event: { text: 'A', by: 'first' } }]);
    expect(order).toEqual(['first a', 'second first in room', 'first again string']);
  });

  it('a hook that does not call next() stores nothing, and the append resolves to undefined', async () => {
    const log = makeKit().log<Message>('chat', {
      ttl,
      onAppend: [async ({ event }, next) => (event.text === 'spam' ? undefined : next())],
    });
    expect(await log.append('room', { text: 'spam' })).toBeUndefined();
    expect(await log.append('room', { text: 'fine' })).toMatch(/^\d+-\d+$/);
    expect(await log.last('room', 9)).toMatchObject([{ event: { text: 'fine' } }]);
  });

  it('a hook that does not return the result of next() rejects the append, also if the event cannot be stored', async () => {
    const silent = async (_context: unknown, next: () => Promise<unknown>): Promise<undefined> =>
      void (await next());
    const hasty = async (_context: unknown, next: () => Promise<unknown>): Promise<undefined> => void next();
    const kit = makeKit();
    for (const hook of [silent, hasty]) {
      const log = kit.log<Message>('chat', { ttl, onAppend: [hook] });
      await expect(log.append('room', { text: 'a' })).rejects.toThrow('it must return the result of next()');
    }
    const log = kit.log<unknown>('chat', { ttl, onAppend: [hasty] });
    await expect(log.append('room', undefined)).rejects.toThrow('undefined, which JSON cannot represent');
  });

  it('an empty array of after() means the end of the log, also if hooks leave out whole pages', async () => {
    const log = makeKit().log<number>('chat', {
      ttl,
      onRead: [async (_context, next) => (await next()).filter(({ event }) => event >= 3)],
    });
    for (const number of [0, 1, 2, 3, 4]) await log.append('room', number);
    expect(await log.after('room', '0-0', 2)).toMatchObject([{ event: 3 }]);
    const [last] = await log.last('room', 1);
    expect(await log.after('room', last?.cursor ?? '', 2)).toEqual([]);
  });

  it('the hooks of a read may replace, redact and leave out entries', async () => {
    const log = makeKit().log<Message>('chat', {
      ttl,
      onRead: [
        async (_context, next) => (await next()).filter(({ event }) => event.text !== 'hidden'),
        async (context, next) => {
          context.events = context.events.map((entry) => ({
            ...entry,
            event: { text: entry.event.text.replace('secret', '***') },
          }));
          return next();
        },
      ],
    });
    for (const text of ['a', 'hidden', 'a secret']) await log.append('room', { text, by: 'ann' });
    const events = [{ event: { text: 'a' } }, { event: { text: 'a ***' } }];
    expect((await log.last('room', 9)).map(({ event }) => ({ event }))).toEqual(events);
    expect((await log.after('room', '0-0')).map(({ event }) => ({ event }))).toEqual(events);
  });
});

describe('A hook that is wrong', () => {
  it('an error of a hook rejects the call, and the event is not stored', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const failing = () => Promise.reject(new Error('no'));
    const log = kit.log('chat', { ttl, onAppend: [failing], onRead: [failing] });
    const plain = kit.log('chat', { ttl });
    await expect(log.append('room', 1)).rejects.toThrow('no');
    expect(await plain.last('room', 9)).toEqual([]);
    await plain.append('room', 1);
    await expect(log.last('room', 9)).rejects.toThrow('no');
    await expect(log.after('room', '0-0')).rejects.toThrow('no');
  });

  it('a second next() of a hook rejects, and stores nothing twice', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = kit.log('chat', {
      ttl,
      onAppend: [
        async (_context, next) => {
          await next();
          return next();
        },
      ],
    });
    await expect(log.append('room', 1)).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_CONFIG',
      message: 'kit.log: option `onAppend`[0] called next() twice',
    });
    expect(await log.last('room', 9)).toHaveLength(1);
  });

  it('a hook that does not wait for next() causes no unhandled rejection', async () => {
    const kit = kitForTest({ url: 'memory:' });
    const log = kit.log<unknown>('chat', {
      ttl,
      onAppend: [
        async (_context, next) => {
          void next();
          return 'done';
        },
      ],
    });
    expect(await log.append('room', 1n)).toBe('done');
    // Vitest fails the run if a rejection was not handled.
    await new Promise(setImmediate);
  });

  it('a read hook that returns no array rejects the read with an error that names the option', async () => {
    const log = kitForTest({ url: 'memory:' }).log('chat', {
      ttl,
      onRead: [async () => undefined as never],
    });
    await expect(log.last('room', 1)).rejects.toMatchObject({
      code: 'ERR_REDIS_KIT_CONFIG',
      message: expect.stringMatching(/option `onRead` returned undefined; it must return the array/),
    });
  });
});
