/*
 * Stands in for 'redis-kit' when the quick start is to run on a Cluster: its code stays as it is, and only what it
 * says about where Redis is gets replaced.
 */
import { type ConnectionOptions, createRedisKit as create, type KitOptions } from '../../../src/index.ts';

export function createRedisKit({ prefix }: KitOptions) {
  const connection: ConnectionOptions = { cluster: { nodes: (process.env.REDIS_NODES ?? '').split(',') } };
  return create({ ...connection, ...(prefix === undefined ? {} : { prefix }) });
}
