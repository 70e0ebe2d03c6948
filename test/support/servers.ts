export { type RedisCluster, startCluster } from './redis-cluster.ts';
export { freePort, type RedisServer, startRedis } from './redis-server.ts';
