import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { OptionReader } from '../base/option-reader.ts';
import { type Access, type Password, passwordOption, readAccess, tlsOption } from './access.ts';
import type { HostAndPort } from './address.ts';
import type { ClusterOptions } from './cluster-options.ts';
import { type NodeAddressMap, readAddressMap, readNodes, tlsOfNodes } from './node-list.ts';

/** A sentinel: `host:port`, `redis://host:port`, `rediss://host:port` for TLS, or its parts. */
export type SentinelNode = string | { readonly host: string; readonly port?: number | undefined };

export interface SentinelOptions {
  /** The name of the master in the configuration of the sentinels, for example `mymaster`. */
  readonly name: string;
  /** All sentinels; default port 26379. The kit is connected to each, since any of them may be down. */
  readonly nodes: readonly SentinelNode[];
  /** The ACL user of the master and of its replicas. */
  readonly username?: string | undefined;
  /** The password of the master and of its replicas, or a function that returns it; see `password` of `createRedisKit()`. */
  readonly password?: Password | undefined;
  /** The ACL user of the sentinels, which may be another one than that of the master. */
  readonly sentinelUsername?: string | undefined;
  /** The password of the sentinels, or a function that returns it. */
  readonly sentinelPassword?: Password | undefined;
  /** The database number; default 0. */
  readonly db?: number | undefined;
  /** TLS for the master and its replicas: `true`, or options of `tls.connect`. */
  readonly tls?: boolean | TlsOptions | undefined;
  /** TLS for the sentinels: `true`, or options of `tls.connect`; default: as `tls`. Nodes with `rediss:` imply it. */
  readonly sentinelTls?: boolean | TlsOptions | undefined;
  /** The IP version of addresses: 4, 6, or 0 for both; default 0. */
  readonly family?: 0 | 4 | 6 | undefined;
  /** Where to connect for an address that a sentinel names, for servers behind NAT or in Docker; as in `cluster`. */
  readonly nodeAddressMap?: ClusterOptions['nodeAddressMap'];
}

export interface SentinelSettings extends Access {
  readonly kind: 'sentinel';
  readonly name: string;
  readonly db: number;
  readonly nodes: readonly HostAndPort[];
  /** How to log in at the sentinels. */
  readonly sentinel: Access;
  readonly nodeAddressMap: NodeAddressMap;
}

const NAMES = [
  'name',
  'nodes',
  'username',
  'password',
  'sentinelUsername',
  'sentinelPassword',
  'db',
  'tls',
  'sentinelTls',
  'family',
  'nodeAddressMap',
];

/** Hints for option names of node-redis and ioredis. */
const FOREIGN_NAMES = {
  sentinels: 'it is `nodes` here',
  sentinelRootNodes: 'it is `nodes` here',
  nodeClientOptions: 'use `username`, `password`, `db` and `tls`',
  sentinelClientOptions: 'use `sentinelUsername`, `sentinelPassword` and `sentinelTls`',
  enableTLSForSentinelMode: 'use `sentinelTls`',
  sentinelTLS: 'it is `sentinelTls` here',
  natMap: 'it is `nodeAddressMap` here',
  role: 'the kit uses the master only',
  masterPoolSize: 'the kit sends all commands on one connection',
  replicaPoolSize: 'the kit uses the master only',
};

const DEFAULT_PORT = 26_379;

/** `where`: the call that has the option `sentinel`. */
export function readSentinel(where: string, value: unknown, clientName: string): SentinelSettings {
  const reader = new OptionReader(`${where}({ sentinel })`, value, NAMES, FOREIGN_NAMES);
  const name = reader.string('name');
  if (name === undefined) throw reader.error('name', `it is required, for example 'mymaster'`);
  const nodes = readNodes(reader, `${where}: option \`sentinel.nodes\``, DEFAULT_PORT);
  const access = readAccess(reader, clientName);
  const tls = reader.has('sentinelTls') ? tlsOption(reader, 'sentinelTls') : access.tls;
  return {
    kind: 'sentinel',
    ...access,
    name,
    db: reader.integer('db', { min: 0, max: 2 ** 31 - 1 }) ?? 0,
    nodes: nodes.map(({ host, port }) => ({ host, port })),
    sentinel: {
      ...access,
      username: reader.secret('sentinelUsername'),
      password: passwordOption(reader, 'sentinelPassword'),
      tls: tlsOfNodes(reader, nodes, 'sentinelTls', tls),
    },
    nodeAddressMap: readAddressMap(reader),
  };
}
