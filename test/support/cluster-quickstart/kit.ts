/*
 * Replaces 'redis-kit' to run the quick start on a Cluster: its code stays the same except for the connection options.
 */
import { type ConnectionOptions, createRedisKit as create, type KitOptions } from '../../../src/index.ts';

export function createRedisKit({ prefix }: KitOptions) {
  const connection: ConnectionOptions = { cluster: { nodes: (process.env.REDIS_NODES ?? '').split(',') } };
  return create({ ...connection, ...(prefix === undefined ? {} : { prefix }) });
}
