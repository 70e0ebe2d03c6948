import type { EventEmitter } from 'node:events';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

/**
 * What a client lent to the kit must look like. All node-redis kinds do, whatever their modules and type mappings;
 * a union of their own generic types would accept none of them under `strict`.
 */
export interface BorrowedClient extends Pick<EventEmitter, 'on' | 'off'> {
  readonly isOpen: boolean;
  // Each kind of client has its own parameters here; the adapter of its family knows them.
  sendCommand(...args: never[]): Promise<unknown>;
}

/** Tells the families apart by what only they have. */
export function recognizeClient(client: unknown): {
  family: 'standalone' | 'cluster';
  client: BorrowedClient;
} {
  if (has(client, 'sendCommand', 'on', 'off', 'withTypeMapping')) {
    if (has(client, 'nodeClient')) return { family: 'cluster', client };
    if (has(client, 'acquire')) throw notYet('a node-redis Sentinel client');
    if (has(client, 'execute')) throw notYet('a node-redis pool');
    return { family: 'standalone', client };
  }
  if (has(client, 'call', 'defineCommand')) throw notYet('an ioredis or iovalkey client');
  throw new ConfigError(
    `createRedisKit: option \`client\` is ${describe(client)}; it must be a node-redis 5 or 6 client or cluster, ` +
      'as createClient() and createCluster() give',
  );
}

function has(client: unknown, ...methods: readonly string[]): client is BorrowedClient {
  if (typeof client !== 'object' || client === null) return false;
  return methods.every((name) => typeof (client as Readonly<Record<string, unknown>>)[name] === 'function');
}

function notYet(what: string): ConfigError {
  return new ConfigError(
    `createRedisKit: option \`client\` is ${what}, which this version cannot use yet; lend it a node-redis client or cluster`,
  );
}
