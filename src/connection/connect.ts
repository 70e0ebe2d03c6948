import type { Emitter } from '../base/emitter.ts';
import type { KitEvents } from '../base/events.ts';
import type { Adapter, AdapterListener } from './adapter.ts';
import { Connection } from './connection.ts';
import { borrowStandalone, openStandalone } from './node-redis-client.ts';
import { borrowCluster, openCluster } from './node-redis-cluster.ts';
import type { ConnectionSettings } from './options.ts';

type RedisSettings = Exclude<ConnectionSettings, { kind: 'memory' }>;

/** Starts to connect. Support for another client library is an adapter and a case here. */
export function connect(
  settings: RedisSettings,
  events: Emitter<KitEvents>,
  commandTimeoutMs: number,
): Connection {
  return new Connection((listener) => createAdapter(settings, listener), events, commandTimeoutMs);
}

function createAdapter(settings: RedisSettings, listener: AdapterListener): Adapter {
  switch (settings.kind) {
    case 'standalone':
      return openStandalone(settings, listener);
    case 'cluster':
      return openCluster(settings, listener);
    case 'borrowed':
      return settings.family === 'cluster'
        ? borrowCluster(settings.client, listener)
        : borrowStandalone(settings.client, listener);
  }
}
