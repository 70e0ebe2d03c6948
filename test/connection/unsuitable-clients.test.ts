import * as ioredis from 'ioredis';
import * as redis from 'redis';
import { createClient } from 'redis';
import * as redis5 from 'redis5';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createRedisKit, type KitOptions } from '../../src/index.ts';
import { IOREDIS_NAMES, ioredisClusterForTest, ioredisForTest } from '../support/clients.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';

/** Not listened to: these clients are never connected. */
const NOWHERE = { host: '127.0.0.1', port: 1 };
const LAZY = { lazyConnect: true };

/** The message of the ConfigError that a client causes. */
function refusal(client: unknown): string {
  try {
    createRedisKit({ client } as KitOptions<never>);
  } catch (error) {
    expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    return String(error);
  }
  throw new Error('the client was accepted');
}

const methods = (...names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, () => undefined]));

describe('an object that is no client of a supported family', () => {
  it.each([
    ['a promise of a client', () => Promise.resolve(createClient()), 'await it'],
    ['the module redis', () => redis, 'createClient()'],
    ['the module ioredis', () => ({ ...ioredis }), 'a client'],
    ['the class of ioredis', () => ioredis.Redis, 'new Redis()'],
    ['a transaction of node-redis', () => createClient().multi(), 'the client that created it'],
    [
      'a pipeline of ioredis',
      () => ioredisForTest('ioredis 6', NOWHERE, LAZY).pipeline(),
      'the client that created it',
    ],
    [
      'a transaction of ioredis 5',
      () => ioredisForTest('ioredis 5', NOWHERE, LAZY).multi(),
      'the client that created it',
    ],
    ['a kit', () => kitForTest({ url: 'memory:' }), 'namespace()'],
    ['a client of redis 3', () => methods('send_command', 'internal_send_command', 'on'), 'redis 3; update'],
    ['a client of redis 4', () => methods('sendCommand', 'on', 'off', 'pUnsubscribe'), 'redis 4; update'],
    ['a client of Bun', () => methods('send', 'psubscribe', 'hmget'), 'Bun'],
    ['a client of Valkey GLIDE', () => methods('customCommand'), 'GLIDE'],
    ['a client of Upstash', () => methods('createScript'), 'rediss://'],
    ['an object without methods', () => ({}), 'node-redis 5 or 6'],
  ])('%s is refused with the remedy', (_, create, remedy) => {
    expect(refusal(create())).toContain(remedy);
  });
});

describe('a client that cannot work', () => {
  it.each([
    ...IOREDIS_NAMES.flatMap((name) => [
      [`a client of ${name}`, () => ioredisForTest(name, NOWHERE, { ...LAZY, keyPrefix: 'app:' })] as const,
      [
        `a cluster of ${name}`,
        () => ioredisClusterForTest(name, [NOWHERE], { ...LAZY, keyPrefix: 'app:' }),
      ] as const,
      [
        `a cluster of ${name}, for its nodes`,
        () => ioredisClusterForTest(name, [NOWHERE], { ...LAZY, redisOptions: { keyPrefix: 'app:' } }),
      ] as const,
    ]),
    ['a client of node-redis 6', () => redis.createClient({ keyPrefix: 'app:' })] as const,
    ['a pool of node-redis 6', () => redis.createClientPool({ keyPrefix: 'app:' })] as const,
    ['a cluster of node-redis 6', () => redis.createCluster({ rootNodes: [], keyPrefix: 'app:' })] as const,
  ])('a `keyPrefix` of %s is refused', (_, create) => {
    const message = refusal(create());
    expect(message).toContain("`keyPrefix` 'app:'");
    expect(message).toContain('option `prefix`');
  });

  it.each([
    ['`readOnly` of ioredis', () => ioredisForTest('ioredis 6', NOWHERE, { ...LAZY, readOnly: true })],
    [
      '`role` of ioredis with Sentinel',
      () => ioredisForTest('ioredis 6', NOWHERE, { ...LAZY, sentinels: [NOWHERE], name: 'm', role: 'slave' }),
    ],
    ['`readonly` of node-redis', () => createClient({ readonly: true })],
  ])('a client that is meant for a replica is refused: %s', (_, create) => {
    expect(refusal(create())).toContain('a client of the master');
  });

  it.each(IOREDIS_NAMES)('`stringNumbers` of a cluster of %s is refused', (name) => {
    const options = { ...LAZY, redisOptions: { stringNumbers: true } };
    expect(refusal(ioredisClusterForTest(name, [NOWHERE], options))).toContain('`stringNumbers`');
  });

  it.each(IOREDIS_NAMES)('a client of %s in subscriber mode is refused', async (name) => {
    const { hostname, port } = new URL(redisUrl());
    const client = ioredisForTest(name, { host: hostname, port: Number(port) }, { protocol: 2 } as object);
    await client.subscribe('outside-channel');
    expect(refusal(client)).toContain('subscriber mode');
  });

  it.each([
    ['node-redis 5', () => redis5.createClient({ url: redisUrl() }), true],
    ['node-redis 5 with RESP3', () => redis5.createClient({ url: redisUrl(), RESP: 3 }), false],
    ['node-redis 6', () => redis.createClient({ url: redisUrl() }), false],
    ['node-redis 6 with RESP2', () => redis.createClient({ url: redisUrl(), RESP: 2 }), true],
  ])(
    'a subscribed client of %s is refused only if it sends no other commands',
    async (_, create, isRefused) => {
      const client = create() as ReturnType<typeof createClient>;
      client.on('error', () => undefined);
      await client.connect();
      onTestFinished(() => client.destroy());
      await client.subscribe('outside-channel', () => undefined);
      if (isRefused) {
        expect(refusal(client)).toContain('subscriber mode');
        return;
      }
      const kit = kitForTest({ client });
      await until('it works', async () => (await kit.locks.tryAcquire('a')) !== null);
    },
  );
});
