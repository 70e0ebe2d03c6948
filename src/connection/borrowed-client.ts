import type { EventEmitter } from 'node:events';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { checkSettings } from './client-settings.ts';

/**
 * The shape of a client that the app passes to the kit: a client, pool, cluster or Sentinel client of node-redis, or a
 * client or cluster of ioredis or iovalkey, with any modules and type mappings. A union of their generic types would
 * accept none of them under `strict`.
 */
export interface BorrowedClient extends Pick<EventEmitter, 'on' | 'off'> {
  // The parameters differ between kinds of clients; each adapter has a type for its own kind.
  sendCommand(...args: never[]): unknown;
}

const NODE_REDIS = ['sendCommand', 'on', 'off', 'withTypeMapping'];
const IOREDIS = ['sendCommand', 'on', 'off', 'callBuffer'];

export type ClientFamily = 'cluster' | 'sentinel' | 'pool' | 'standalone' | 'ioredis-cluster' | 'ioredis';

/** The families by the methods that only their clients have. The first family that matches counts. */
const FAMILIES: readonly (readonly [ClientFamily, readonly string[]])[] = [
  ['cluster', [...NODE_REDIS, 'nodeClient']],
  ['sentinel', [...NODE_REDIS, 'acquire', '_execute']],
  ['pool', [...NODE_REDIS, 'execute']],
  ['standalone', NODE_REDIS],
  ['ioredis-cluster', [...IOREDIS, 'nodes', 'refreshSlotsCache']],
  ['ioredis', [...IOREDIS, 'duplicate', 'disconnect']],
];

/** Objects that are passed in place of a client, by methods that only they have, with the remedy. */
const LOOKALIKES: readonly (readonly [what: string, remedy: string, ...methods: string[]])[] = [
  ['a promise', 'await it and pass its result', 'then'],
  ['a pipeline or transaction', 'pass the client that created it', 'exec', 'callBuffer'],
  ['a pipeline or transaction', 'pass the client that created it', 'exec', 'addCommand'],
  ['a module', 'pass a client, as its createClient() returns', 'createClient'],
  ['a module', 'pass a client, as new Redis() creates', 'Redis', 'Cluster'],
  ['a kit', 'pass the `client` of that kit, or use its namespace()', 'namespace', 'rateLimit'],
  ['a client of redis 3', 'update redis to version 5 or 6', 'internal_send_command'],
  ['a client of redis 4', 'update redis to version 5 or 6', 'sendCommand', 'on', 'off', 'pUnsubscribe'],
  ['a client of Valkey GLIDE', 'create one with redis, ioredis or iovalkey', 'customCommand'],
  ['a client of Upstash, which uses HTTP', 'set `url` to its rediss:// address', 'createScript'],
  [
    'a client of Bun',
    'set `url`, or create one with redis, ioredis or iovalkey',
    'send',
    'psubscribe',
    'hmget',
  ],
];

/** Recognizes a client by its methods. Throws for a client that the kit cannot use. */
export function recognizeClient(client: unknown): {
  readonly family: ClientFamily;
  readonly client: BorrowedClient;
} {
  for (const [family, methods] of FAMILIES) {
    if (!has(client, methods)) continue;
    checkSettings(client);
    return { family, client };
  }
  const [what, remedy] = LOOKALIKES.find(([, , ...methods]) => has(client, methods)) ?? [];
  if (what !== undefined && remedy !== undefined) throw refused(what, remedy);
  if (typeof client === 'function')
    throw refused('a function or class', 'pass a client, as new Redis() creates');
  throw refused(
    describe(client),
    'it must be a client, pool, cluster or Sentinel client of node-redis 5 or 6, or a client or cluster of ioredis 5 or 6 or of iovalkey',
  );
}

function has(client: unknown, methods: readonly string[]): client is BorrowedClient {
  if (typeof client !== 'object' || client === null) return false;
  return methods.every((name) => typeof (client as Readonly<Record<string, unknown>>)[name] === 'function');
}

function refused(what: string, remedy: string): ConfigError {
  return new ConfigError(`createRedisKit: option \`client\` is ${what}; ${remedy}`);
}
