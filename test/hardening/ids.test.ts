import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keySlot } from '../../src/connection/key-slot.ts';
import { createRedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { onEveryStore } from '../support/stores.ts';
import { countCommands, type WireCommand } from '../support/wire.ts';
import { HOSTILE, USES } from './hostile.ts';

onEveryStore('Hostile strings', (makeKit) => {
  it.each(Object.entries(USES))(
    '%s share nothing, neither with each other nor over namespaces',
    async (_name, use) => {
      const kit = makeKit();
      await Promise.all([use(kit), use(kit.namespace('__proto__'))]);
    },
  );
});

describe('A prefix, a namespace and a name', () => {
  const allowed = /^[\w.:-]+$/;

  it('the prefix, the namespace and the name of a limiter must not contain characters with a meaning in keys', () => {
    const kit = kitForTest({ url: 'memory:' });
    for (const text of ['', ...HOSTILE.filter((each) => !allowed.test(each))]) {
      expect(() => createRedisKit({ url: 'memory:', prefix: text }), text).toThrow(/prefix/);
      expect(() => kit.namespace(text), text).toThrow(/namespace/);
      const policy = { algorithm: 'sliding-window', limit: 1, window: '1h', name: text } as const;
      expect(() => kit.limiter(policy), text).toThrow(/name/);
      expect(() => kit.expressRateLimitStore({ name: text }), text).toThrow(/name/);
    }
  });

  it('names of properties that all objects have are names like others', async () => {
    const kit = kitForTest({ url: 'memory:' });
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect(kit.namespace(name).prefix).toBe(`${kit.prefix}:${name}`);
      kit.limiter({ algorithm: 'sliding-window', limit: 1, window: '1h', name });
      expect(() => kit.on(name as never, () => undefined)).toThrow('there is no event');
      expect(() => kit.cache({ policy: name })).toThrow('policy');
      await expect(kit.locks.acquire('a', { [name]: 1 })).rejects.toThrow(`unknown option \`${name}\``);
    }
  });
});

/** The keys of a command: as many as its second argument says for a script, else its first argument, or all of DEL. */
function keysOf([name, ...args]: WireCommand): readonly string[] {
  if (name.startsWith('EVAL')) return args.slice(2, 2 + Number(args[1]));
  if (name === 'DEL' || name === 'SUBSCRIBE' || name === 'UNSUBSCRIBE') return args;
  if (['SCAN', 'HELLO', 'CLIENT'].includes(name)) return [];
  return args.slice(0, 1);
}

describeWithServers('The keys of hostile strings on the wire', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  it('every key belongs to its namespace and its feature, and the keys of a command share a slot', async () => {
    const kit = kitForTest({ url: server.url, prefix: 't-hostile' });
    await kit.ready();
    const commands = await countCommands(server.url, async () => {
      for (const use of Object.values(USES)) await Promise.all([use(kit), use(kit.namespace('in'))]);
    });
    const id = String.raw`(?:\*[\w-]{43}|[^{}*?[\]\\:\p{Cc}\p{Cs}]+)`;
    const feature = '(?:rate|session|cache|lock|idempotency|concurrency|state|document|members|log)';
    const ours = new RegExp(
      `^t-hostile(?::in)?:(?:${feature}:\\{${id}\\}(?::${id})*|calls:${id}|channel:\\{.+\\})$`,
      'su',
    );
    // In the format of connect-redis an id is a part of the key as it is.
    const compatible = /^t-hostile(?::in)?:sess:/;
    const odd = commands.flatMap((command) =>
      keysOf(command).filter((key) => !ours.test(key) && !compatible.test(key)),
    );
    expect(odd).toEqual([]);
    expect(commands.length).toBeGreaterThan(HOSTILE.length * Object.keys(USES).length);
    for (const command of commands) {
      if (!command[0].startsWith('EVAL')) continue;
      const slots = new Set(keysOf(command).map(keySlot));
      expect(slots.size, command.slice(0, 6).join(' ')).toBeLessThanOrEqual(1);
    }
    const locks = new Set(commands.flatMap(keysOf).filter((key) => /:lock:\{[^}]*\}$/.test(key)));
    expect(locks.size).toBe(HOSTILE.length * 2);
    const longest = Math.max(
      ...commands
        .flatMap(keysOf)
        .filter((key) => !compatible.test(key))
        .map((key) => key.length),
    );
    expect(longest).toBeLessThan(400);
  });
});
