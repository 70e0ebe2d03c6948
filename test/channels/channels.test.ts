import { describe, expect, it } from 'vitest';
import { ConfigError, type Json, type RedisKit, StoreError } from '../../src/index.ts';
import { redisUrl } from '../support/context.ts';
import { eventsOf, kitForTest } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { onEveryStore } from '../support/stores.ts';
import { until } from '../support/until.ts';

type Message = readonly [channel: string, data: Json];

/** Subscribes, and records what arrives. */
async function record(kit: RedisKit, channel: string | { readonly pattern: string }) {
  const messages: Message[] = [];
  const stop = await kit.subscribe(channel, (data, name) => messages.push([name, data]));
  return { messages, stop };
}

/** Publishes a message on each channel, and waits until all that was published before has arrived everywhere. */
async function settle(kit: RedisKit): Promise<void> {
  const { messages, stop } = await record(kit, 'the end');
  await kit.publish('the end', null);
  await until('the last message arrives', () => messages.length > 0);
  await stop();
}

onEveryStore('Channels', (makeKit) => {
  it('a message reaches every listener of its channel, in the order of publishing', async () => {
    const kit = makeKit();
    const [one, two, other] = [await record(kit, 'a'), await record(kit, 'a'), await record(kit, 'b')];
    const sent: Json[] = [1, 'text', null, true, { nested: ['é ☃ \u2028', { n: 0.5 }] }, [], '\ud800'];
    await Promise.all(sent.map((data) => kit.publish('a', data)));
    await until('all arrive', () => two.messages.length === sent.length);
    expect(one.messages).toEqual(sent.map((data) => ['a', data]));
    expect(two.messages).toEqual(one.messages);
    expect(other.messages).toEqual([]);
  });

  it('a pattern receives the messages of all channels that it matches, with their names', async () => {
    const kit = makeKit();
    const rooms = await record(kit, { pattern: 'chat:*' });
    const classes = await record(kit, { pattern: 'chat:[a-b]?' });
    const literal = await record(kit, { pattern: 'chat:\\*' });
    for (const name of ['chat:a', 'chat:a1', 'chat:c1', 'chat:*', 'chats:a', 'chat:}{']) {
      await kit.publish(name, name);
    }
    await until('all arrive', () => rooms.messages.length >= 5);
    await settle(kit);
    // On a Cluster, a message may overtake one of another channel.
    const names = rooms.messages.map(([name]) => name).sort();
    expect(names).toEqual(['chat:*', 'chat:a', 'chat:a1', 'chat:c1', 'chat:}{']);
    expect(rooms.messages.every(([name, data]) => name === data)).toBe(true);
    expect(classes.messages).toEqual([['chat:a1', 'chat:a1']]);
    expect(literal.messages).toEqual([['chat:*', 'chat:*']]);
  });

  it('a listener can change its data, and no other listener sees the change', async () => {
    const kit = makeKit();
    const seen: Json[] = [];
    for (const name of ['first', 'second']) {
      await kit.subscribe('a', (data) => {
        seen.push(structuredClone(data));
        Object.assign(data as object, { changedBy: name });
      });
    }
    await kit.publish('a', { text: 'hello' });
    await until('both are called', () => seen.length === 2);
    expect(seen).toEqual([{ text: 'hello' }, { text: 'hello' }]);
  });

  it('a listener that throws or rejects is reported, and the other listeners still receive the message', async () => {
    const kit = makeKit();
    const errors = eventsOf(kit, 'error');
    await kit.subscribe('a', () => {
      throw new Error('a listener that throws');
    });
    await kit.subscribe('a', async () => {
      throw new Error('a listener that rejects');
    });
    const { messages } = await record(kit, 'a');
    await kit.publish('a', 1);
    await kit.publish('a', 2);
    await until('both messages arrive', () => messages.length === 2);
    await until('both failures are reported', () => errors.length >= 2);
    expect(errors.map(({ feature, error }) => [feature, error.message]).sort()).toEqual([
      ['channel', 'a listener that rejects'],
      ['channel', 'a listener that throws'],
    ]);
  });

  it('an unsubscribed listener receives nothing, and unsubscribing twice does nothing more', async () => {
    const kit = makeKit();
    const [stopped, kept] = [await record(kit, 'a'), await record(kit, 'a')];
    const pattern = await record(kit, { pattern: 'a*' });
    await Promise.all([stopped.stop(), stopped.stop(), pattern.stop()]);
    await stopped.stop();
    await kit.publish('a', 1);
    await until('the other listener receives it', () => kept.messages.length === 1);
    expect([stopped.messages, pattern.messages]).toEqual([[], []]);
    const again = await record(kit, 'a');
    await kit.publish('a', 2);
    await until('the new listener receives it', () => again.messages.length === 1);
    expect(stopped.messages).toEqual([]);
  });

  it('a listener that unsubscribes inside its own call receives nothing more', async () => {
    const kit = makeKit();
    const seen: Json[] = [];
    const stop = await kit.subscribe('a', (data) => {
      seen.push(data);
      return stop();
    });
    const { messages } = await record(kit, 'a');
    await Promise.all([kit.publish('a', 1), kit.publish('a', 2)]);
    await until('both arrive elsewhere', () => messages.length === 2);
    expect(seen).toEqual([1]);
  });

  it('a pattern matches no channel of a namespace or of the parent kit', async () => {
    const kit = makeKit();
    const kits = [kit, kit.namespace('in'), kit.namespace('channel'), kit.namespace('channel:in')];
    const recorders = await Promise.all(kits.map((each) => record(each, { pattern: '*' })));
    for (const [index, each] of kits.entries()) {
      for (const name of ['a', 'in:channel:{a}', '}*{']) await each.publish(name, index);
    }
    await until('all arrive', () => recorders.every(({ messages }) => messages.length >= 3));
    await settle(kit);
    for (const [index, { messages }] of recorders.entries()) {
      const data = messages.filter(([name]) => name !== 'the end').map(([, value]) => value);
      expect(data).toEqual([index, index, index]);
    }
  });

  it('after kit.close(), new calls and subscriptions that have not begun reject', async () => {
    const kit = makeKit();
    await kit.ready();
    const { messages, stop } = await record(kit, 'a');
    await kit.close();
    for (const call of [kit.publish('a', 1), kit.subscribe('a', () => undefined)]) {
      await expect(call).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_CLOSED' });
    }
    await stop();
    expect(messages).toEqual([]);
  });
});

describe('The arguments of kit.publish and kit.subscribe', () => {
  const kit = () => kitForTest({ url: 'memory:' });
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;

  it.each<[string, unknown, RegExp]>([
    ['an empty name', '', /the channel is ''; it must be a string that is not empty/],
    ['a number', 7, /the channel is 7; it must be a string/],
    ['a name of 513 bytes', `${'é'.repeat(256)}a`, /the channel has 513 bytes; it must have at most 512/],
    ['a lone surrogate', 'a\ud800', /the channel has a lone surrogate/],
  ])('%s is refused as a channel', async (_, name, message) => {
    for (const call of [kit().publish(name as string, 1), kit().subscribe(name as string, () => undefined)]) {
      await expect(call).rejects.toThrow(ConfigError);
      await expect(call).rejects.toThrow(message);
    }
  });

  it.each<[string, unknown, RegExp]>([
    ['undefined', undefined, /the data is undefined, which JSON cannot represent/],
    ['a function', () => 1, /the data is function/],
    ['a cycle', cycle, /the data cannot be stored as JSON/],
    ['a BigInt', 1n, /the data cannot be stored as JSON/],
  ])('%s is refused as data', async (_, data, message) => {
    const call = kit().publish('a', data as Json);
    await expect(call).rejects.toThrow(ConfigError);
    await expect(call).rejects.toThrow(message);
  });

  it('data of more than 1 MiB is refused with the status 413', async () => {
    const call = kit().publish('a', 'x'.repeat(2 ** 20));
    await expect(call).rejects.toMatchObject({ code: 'ERR_REDIS_KIT_TOO_LARGE', status: 413 });
    await expect(call).rejects.toThrow('the data takes 1048578 bytes, and at most 1048576 are allowed');
  });

  it.each<[string, unknown, unknown, RegExp]>([
    ['no listener', 'a', undefined, /the listener is undefined; it must be a function/],
    ['an unknown property', { patern: 'a' }, () => 1, /unknown option `patern`; did you mean `pattern`/],
    ['an object without a pattern', {}, () => 1, /the pattern is undefined/],
    ['an empty pattern', { pattern: '' }, () => 1, /the pattern is ''/],
    ['a class that is not closed', { pattern: 'a[b' }, () => 1, /the pattern 'a\[b' is incomplete/],
    [
      'a backslash at the end',
      { pattern: 'a\\' },
      () => 1,
      /is incomplete; close its `\[`, or write \\\[ and \\\\/,
    ],
  ])('%s is refused by kit.subscribe', async (_, channel, listener, message) => {
    const call = kit().subscribe(channel as string, listener as () => void);
    await expect(call).rejects.toThrow(ConfigError);
    await expect(call).rejects.toThrow(message);
  });
});

describe('A message of another Redis client', () => {
  it('a message that is no JSON is reported once and skipped', async () => {
    const kit = kitForTest({ url: redisUrl() });
    const errors = eventsOf(kit, 'error');
    const [one, two] = [await record(kit, 'a'), await record(kit, { pattern: '*' })];
    await withPlainClient(redisUrl(), async (client) => {
      for (const text of ['{"cut', '', 'undefined', '\u{1f600}', ' { "fine": 1 }\n']) {
        await client.publish(`${kit.prefix}:channel:{a}`, text);
      }
    });
    await until('the last message arrives', () => one.messages.length + two.messages.length >= 2);
    expect([one.messages, two.messages]).toEqual([[['a', { fine: 1 }]], [['a', { fine: 1 }]]]);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ feature: 'channel', error: { code: 'ERR_REDIS_KIT_CORRUPT' } });
    expect(errors[0]?.error).toBeInstanceOf(StoreError);
  });
});
