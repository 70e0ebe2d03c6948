import type { Argument } from '../engine/operation.ts';
import { SOCKET_TIMEOUT_MS } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import { findUnknownHosts, locateNode } from './cluster-addresses.ts';
import type { ClusterSettings } from './cluster-options.ts';
import type { HeartbeatClient } from './heartbeat.ts';
import { type CommandOptions, clientOptions, hostOptions } from './node-redis.ts';
import type { NodeClient } from './node-redis-subscriber.ts';
import { redisPackage } from './redis-package.ts';
import type { DiscoveringClient } from './topology-discovery.ts';

/** A master in the topology of a cluster client; `client` is undefined until the node is connected for the first time. */
export interface ClusterMaster {
  readonly address: string;
  readonly client?: (NodeClient & HeartbeatClient & { readonly isOpen: boolean }) | undefined;
}

/** The methods that this adapter uses of the kit's own cluster client or of a borrowed one. */
export interface ClusterClient extends BorrowedClient, DiscoveringClient {
  readonly slots: readonly ({ readonly master: ClusterMaster } | undefined)[];
  readonly masters: readonly ClusterMaster[];
  readonly nodeByAddress: Map<string, unknown>;
  nodeClient(master: ClusterMaster): Promise<NodeClient>;
  sendCommand(
    firstKey: string,
    isReadonly: boolean,
    command: readonly Argument[],
    options: CommandOptions,
  ): Promise<unknown>;
  connect(): Promise<unknown>;
  destroy(): void;
}

/** The cluster is asked for its topology this long after a master's socket began to reconnect. */
const TOPOLOGY_REFRESH_MS = 200;

/** Creates a cluster client that the kit connects and closes. */
export function createOwnCluster(settings: ClusterSettings): ClusterClient {
  const { nodes, tls } = settings;
  const options = clientOptions(settings);
  const cluster: BorrowedClient = redisPackage().createCluster({
    rootNodes: nodes.map((node) => ({
      socket: { ...hostOptions(node, tls), socketTimeout: SOCKET_TIMEOUT_MS },
    })),
    defaults: options,
    commandOptions: options.commandOptions,
    nodeAddressMap: (address) => hostOptions(locateNode(address, settings), tls),
    // The adapter connects the nodes one by one: otherwise a single dead master would block the whole cluster.
    minimizeConnections: true,
    topologyRefreshOnReconnectionAttemptStrategy: TOPOLOGY_REFRESH_MS,
  });
  const client = cluster as ClusterClient;
  findUnknownHosts(client.nodeByAddress);
  return client;
}
