import type { Emitter } from '../base/emitter.ts';
import type { KitEvents } from '../base/events.ts';
import type { Adapter } from './adapter.ts';
import { Connection } from './connection.ts';
import { borrowStandalone, openStandalone } from './node-redis-client.ts';
import { borrowCluster, openCluster } from './node-redis-cluster.ts';
import type { ConnectionSettings } from './options.ts';

type RedisSettings = Exclude<ConnectionSettings, { kind: 'memory' }>;

/** Starts to connect. Another client library would be supported by an adapter and a case in `createAdapter()`. */
export function connect(
  settings: RedisSettings,
  events: Emitter<KitEvents>,
  commandTimeoutMs: number,
): Connection {
  return new Connection((changed) => createAdapter(settings, changed), events, commandTimeoutMs);
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
