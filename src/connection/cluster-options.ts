import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { OptionReader } from '../base/option-reader.ts';
import { type Access, type Password, readAccess } from './access.ts';
import type { HostAndPort } from './address.ts';
import { type NodeAddressMap, readAddressMap, readNodes, tlsOfNodes } from './node-list.ts';

/** A node of a cluster: `redis://host:port`, `rediss://host:port` for TLS, `host:port`, or its parts. */
export type ClusterNode = string | { readonly host: string; readonly port?: number | undefined };

export interface ClusterOptions {
  /** Some of the nodes, from which the others are discovered. List more than one, since a node can be down. */
  readonly nodes: readonly ClusterNode[];
  readonly username?: string | undefined;
  /** The password of all nodes, or a function that returns it; see `password` of `createRedisKit()`. */
  readonly password?: Password | undefined;
  /** TLS for all nodes: `true`, or options of `tls.connect`. Nodes with `rediss:` imply it. */
  readonly tls?: boolean | TlsOptions | undefined;
  /** The IP version of addresses: 4, 6, or 0 for both; default 0. */
  readonly family?: 0 | 4 | 6 | undefined;
  /**
   * The addresses to connect to, by the addresses that the nodes announce (`'10.0.0.1:6379'`), for nodes behind NAT or
   * in Docker. A node that is not in the map, or for which the function returns undefined, is connected as it announces.
   */
  readonly nodeAddressMap?:
    | Readonly<Record<string, ClusterNode>>
    | ((address: string) => ClusterNode | undefined)
    | undefined;
}

export interface ClusterSettings extends Access {
  readonly kind: 'cluster';
  readonly nodes: readonly HostAndPort[];
  readonly nodeAddressMap: NodeAddressMap;
}

const NAMES = ['nodes', 'username', 'password', 'tls', 'family', 'nodeAddressMap'];

const FOREIGN_NAMES = {
  natMap: 'it is `nodeAddressMap` here',
  rootNodes: 'it is `nodes` here',
  defaults: 'put `username`, `password` and `tls` beside `nodes`',
  db: 'a cluster has only database 0',
};

/** `where`: the call that has the option `cluster`. */
export function readCluster(where: string, value: unknown, clientName: string): ClusterSettings {
  const reader = new OptionReader(`${where}({ cluster })`, value, NAMES, FOREIGN_NAMES);
  const nodes = readNodes(reader, `${where}: option \`cluster.nodes\``, 6379);
  const access = readAccess(reader, clientName);
  return {
    kind: 'cluster',
    ...access,
    nodes: nodes.map(({ host, port }) => ({ host, port })),
    tls: tlsOfNodes(reader, nodes, 'tls', access.tls),
    nodeAddressMap: readAddressMap(reader),
  };
}
