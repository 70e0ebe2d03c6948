import { resolve } from 'node:path';
import type { InstanceSettings } from './instances.ts';

/** The parts of an address that matter for its security. */
export interface Endpoint {
  /** A name, an address, or the path of a socket. */
  readonly host: string;
  readonly isEncrypted: boolean;
  readonly hasPassword: boolean;
}

/** Where a kit connects to. Empty for a borrowed client that does not show its options. */
export function endpointsOf(settings: InstanceSettings): readonly Endpoint[] {
  switch (settings.kind) {
    case 'memory':
      return [];
    case 'borrowed':
      return clientsOf(settings.client).flatMap((client) => endpointOfClient(client));
    default: {
      // The address of the master is known to the sentinels only.
      const { tls, password } = settings.kind === 'sentinel' ? settings.sentinel : settings;
      const nodes = 'nodes' in settings ? settings.nodes : [settings];
      return nodes.map((node) => ({
        host: 'path' in node ? resolve(node.path) : node.host,
        isEncrypted: tls !== false,
        hasPassword: password !== undefined,
      }));
    }
  }
}

/** The options of the clients that this module knows: node-redis has those of a socket apart. */
interface ClientOptions {
  readonly socket?: { readonly host?: unknown; readonly tls?: unknown };
  readonly host?: unknown;
  readonly tls?: unknown;
  /** An option of ioredis, whose `host` is then a default without a meaning. */
  readonly sentinels?: unknown;
  readonly password?: unknown;
  readonly credentialsProvider?: unknown;
}

/** A client, or the clients of the known masters of a cluster. */
function clientsOf(client: object): readonly object[] {
  if ('masters' in client && Array.isArray(client.masters)) {
    return client.masters.flatMap((master: { readonly client?: object }) => master.client ?? []);
  }
  return [client];
}

function endpointOfClient(client: object): readonly Endpoint[] {
  const options = 'options' in client ? (client.options as ClientOptions | undefined) : undefined;
  if (typeof options !== 'object' || options === null) return [];
  const { host, tls } = options.socket ?? options;
  if (typeof host !== 'string' || Array.isArray(options.sentinels)) return [];
  const hasPassword = Boolean(options.password ?? options.credentialsProvider);
  return [{ host, isEncrypted: Boolean(tls), hasPassword }];
}
