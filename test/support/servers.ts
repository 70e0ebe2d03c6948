export { type RedisCluster, startCluster } from './redis-cluster.ts';
export { type RedisSentinel, startSentinel } from './redis-sentinel.ts';
export { freePort, type RedisServer, startRedis } from './redis-server.ts';
