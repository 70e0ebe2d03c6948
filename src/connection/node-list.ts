import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import type { Access } from './access.ts';
import { checkHost, type HostAndPort, parseRedisUrl, withoutBrackets } from './address.ts';

/** Returns where to connect for an announced address, if the user has said so. Throws what the user's function throws. */
export type NodeAddressMap = (address: string) => HostAndPort | undefined;

interface ParsedNode extends HostAndPort {
  /** Undefined if the node has no scheme. */
  readonly isTls: boolean | undefined;
}

/** Reads the option `nodes`. `source` names the option in errors. */
export function readNodes(reader: OptionReader, source: string, defaultPort: number): readonly ParsedNode[] {
  const list = reader.value('nodes');
  if (Array.isArray(list) && list.length > 0) return list.map((node) => readNode(source, node, defaultPort));
  throw reader.error(
    'nodes',
    `it must list at least one node, for example ['redis://10.0.0.1:${defaultPort}']`,
  );
}

/** The option `name`, unless nodes with `rediss:` imply TLS. */
export function tlsOfNodes(
  reader: OptionReader,
  nodes: readonly ParsedNode[],
  name: 'tls' | 'sentinelTls',
  tls: Access['tls'],
): Access['tls'] {
  if (!nodes.some(({ isTls }) => isTls === true)) return tls;
  if (nodes.some(({ isTls }) => isTls === false)) {
    throw reader.error('nodes', 'it has nodes with redis: and with rediss:; either all have TLS or none');
  }
  if (reader.value(name) === false)
    throw reader.error(name, 'it contradicts the nodes with rediss:, which means TLS');
  return tls === false ? true : tls;
}

function readNode(source: string, node: unknown, defaultPort: number): ParsedNode {
  if (typeof node !== 'string') {
    const reader = new OptionReader(source, node, ['host', 'port']);
    const host = reader.string('host');
    if (host === undefined) throw reader.error('host', 'it is required');
    const port = reader.integer('port', { min: 1, max: 65_535 }) ?? defaultPort;
    return { host: checkHost(`${source}: a \`host\``, host), port, isTls: undefined };
  }
  const [, host, port = `${defaultPort}`] = /^(\[[\da-fA-F:.%]+\]|[\w.-]+)(?::(\d{1,5}))?$/.exec(node) ?? [];
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

export function readAddressMap(reader: OptionReader): NodeAddressMap {
  const map = reader.value('nodeAddressMap');
  const source = `${reader.where}: option \`nodeAddressMap\``;
  const target = (node: unknown): HostAndPort => {
    const { host, port } = readNode(source, node, 6379);
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
