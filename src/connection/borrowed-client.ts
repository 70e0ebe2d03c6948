import type { EventEmitter } from 'node:events';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

/**
 * The shape of a client that the app passes to the kit. All kinds of node-redis clients have this shape, with any
 * modules and type mappings; a union of their generic types would accept none of them under `strict`.
 */
export interface BorrowedClient extends Pick<EventEmitter, 'on' | 'off'> {
  readonly isOpen: boolean;
  // The parameters differ between kinds of clients; each adapter has a type for its own kind.
  sendCommand(...args: never[]): Promise<unknown>;
}

/** Recognizes a client by methods that only its kind has. Throws for a client that the kit does not support. */
export function recognizeClient(client: unknown): {
  family: 'standalone' | 'cluster' | 'sentinel';
  client: BorrowedClient;
} {
  if (has(client, 'sendCommand', 'on', 'off', 'withTypeMapping')) {
    if (has(client, 'nodeClient')) return { family: 'cluster', client };
    if (has(client, 'acquire', '_execute')) return { family: 'sentinel', client };
    if (has(client, 'execute')) throw unsupported('a node-redis pool');
    return { family: 'standalone', client };
  }
  if (has(client, 'call', 'defineCommand')) throw unsupported('an ioredis or iovalkey client');
  throw new ConfigError(
    `createRedisKit: option \`client\` is ${describe(client)}; it must be a node-redis 5 or 6 client or cluster, ` +
      'as createClient() and createCluster() give',
  );
}

function has(client: unknown, ...methods: readonly string[]): client is BorrowedClient {
  if (typeof client !== 'object' || client === null) return false;
  return methods.every((name) => typeof (client as Readonly<Record<string, unknown>>)[name] === 'function');
}

function unsupported(what: string): ConfigError {
  return new ConfigError(
    `createRedisKit: option \`client\` is ${what}, which this version does not support; pass a node-redis client or cluster`,
  );
}
