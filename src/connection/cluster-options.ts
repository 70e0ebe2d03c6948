import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { type Access, type Password, readAccess } from './access.ts';
import { checkHost, type HostAndPort, parseRedisUrl, withoutBrackets } from './address.ts';

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
  /** Returns where to connect for an announced address, if the user has said so. Throws what the user's function throws. */
  readonly nodeAddressMap: (address: string) => HostAndPort | undefined;
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
  const list = reader.value('nodes');
  if (!Array.isArray(list) || list.length === 0) {
    throw reader.error('nodes', `it must list at least one node, for example ['redis://10.0.0.1:6379']`);
  }
  const nodes = list.map((node) => clusterNode(`${where}: option \`cluster.nodes\``, node));
  const access = readAccess(reader, clientName);
  return {
    kind: 'cluster',
    ...access,
    nodes: nodes.map(({ host, port }) => ({ host, port })),
    tls: tlsOfNodes(reader, nodes, access.tls),
    nodeAddressMap: addressMap(reader),
  };
}

interface ParsedNode extends HostAndPort {
  /** Undefined if the node has no scheme. */
  readonly isTls: boolean | undefined;
}

function tlsOfNodes(reader: OptionReader, nodes: readonly ParsedNode[], tls: Access['tls']): Access['tls'] {
  if (!nodes.some(({ isTls }) => isTls === true)) return tls;
  if (nodes.some(({ isTls }) => isTls === false)) {
    throw reader.error(
      'nodes',
      'it has nodes with redis: and with rediss:; the nodes of a cluster either all have TLS or none',
    );
  }
  if (reader.value('tls') === false)
    throw reader.error('tls', 'it contradicts the nodes with rediss:, which means TLS');
  return tls === false ? true : tls;
}

function clusterNode(source: string, node: unknown): ParsedNode {
  if (typeof node !== 'string') {
    const reader = new OptionReader(source, node, ['host', 'port']);
    const host = reader.string('host');
    if (host === undefined) throw reader.error('host', 'it is required');
    const port = reader.integer('port', { min: 1, max: 65_535 }) ?? 6379;
    return { host: checkHost(`${source}: a \`host\``, host), port, isTls: undefined };
  }
  const [, host, port = '6379'] = /^(\[[\da-fA-F:.%]+\]|[\w.-]+)(?::(\d{1,5}))?$/.exec(node) ?? [];
  if (host !== undefined && Number(port) > 0 && Number(port) <= 65_535) {
    return { host: withoutBrackets(host), port: Number(port), isTls: undefined };
  }
  const address = parseRedisUrl(source, node);
  if (address === 'memory') throw new ConfigError(`${source} holds 'memory:'; set it as \`url\` instead`);
  const { endpoint, username, password, db, family, isTls } = address;
  if (
    ![username, password, db || undefined, family].every((part) => part === undefined) ||
    'path' in endpoint
  ) {
    throw new ConfigError(
      `${source} holds a node that is more than redis://host:port; ` +
        'put `username`, `password` and `tls` beside `nodes`, for all nodes',
    );
  }
  return { ...endpoint, isTls };
}

function addressMap(reader: OptionReader): ClusterSettings['nodeAddressMap'] {
  const map = reader.value('nodeAddressMap');
  const source = `${reader.where}: option \`nodeAddressMap\``;
  const target = (node: unknown): HostAndPort => {
    const { host, port } = clusterNode(source, node);
    return { host, port };
  };
  if (map === undefined) return () => undefined;
  if (typeof map === 'function') {
    return (address) => {
      const node: unknown = map(address);
      return node === undefined ? undefined : target(node);
    };
  }
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw reader.error(
      'nodeAddressMap',
      `it must be an object such as { '10.0.0.1:6379': 'localhost:7001' }, or a function`,
    );
  }
  const targets = new Map(Object.entries(map).map(([address, node]) => [address, target(node)]));
  return (address) => targets.get(address);
}
