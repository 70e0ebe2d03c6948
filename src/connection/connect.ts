import type { Adapter } from './adapter.ts';
import { borrowStandalone, openStandalone } from './node-redis-client.ts';
import { borrowCluster, openCluster } from './node-redis-cluster.ts';
import type { ConnectionSettings } from './options.ts';
import { Transport } from './transport.ts';

type RedisSettings = Exclude<ConnectionSettings, { kind: 'memory' | 'instance' }>;

/** Starts to connect. Another client library would be supported by an adapter and a case in `createAdapter()`. */
export function openTransport(settings: RedisSettings, closed?: () => void): Transport {
  return new Transport((changed) => createAdapter(settings, changed), closed);
}

function createAdapter(settings: RedisSettings, changed: () => void): Adapter {
  switch (settings.kind) {
    case 'standalone':
      return openStandalone(settings, changed);
    case 'cluster':
      return openCluster(settings, changed);
    case 'borrowed':
      return settings.family === 'cluster'
        ? borrowCluster(settings.client, changed)
        : borrowStandalone(settings.client, changed);
  }
}
