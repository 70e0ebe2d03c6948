import type { Adapter } from './adapter.ts';
import { borrowIoredis } from './ioredis-client.ts';
import { borrowIoredisCluster } from './ioredis-cluster.ts';
import { MasterConnection } from './master-connection.ts';
import { borrowStandalone, openStandalone } from './node-redis-client.ts';
import { borrowCluster, openCluster } from './node-redis-cluster.ts';
import { borrowPool } from './node-redis-pool.ts';
import { borrowSentinel } from './node-redis-sentinel.ts';
import type { ConnectionSettings } from './options.ts';
import { SentinelAdapter } from './sentinel-adapter.ts';
import { Transport } from './transport.ts';

type RedisSettings = Exclude<ConnectionSettings, { kind: 'memory' | 'instance' }>;

/** Starts to connect. Another client library would be supported by an adapter and a case in `createAdapter()`. */
export function openTransport(settings: RedisSettings, closed?: () => void): Transport {
  return new Transport((changed) => createAdapter(settings, changed), closed);
}

const BORROW = {
  standalone: borrowStandalone,
  cluster: borrowCluster,
  sentinel: borrowSentinel,
  pool: borrowPool,
  ioredis: borrowIoredis,
  'ioredis-cluster': borrowIoredisCluster,
};

function createAdapter(settings: RedisSettings, changed: () => void): Adapter {
  switch (settings.kind) {
    case 'standalone':
      return openStandalone(settings, changed);
    case 'cluster':
      return openCluster(settings, changed);
    case 'sentinel':
      return new SentinelAdapter(new MasterConnection(settings, changed), settings.name, changed);
    case 'borrowed':
      return BORROW[settings.family](settings.client, changed);
  }
}
