import type { HostAndPort } from './address.ts';
import type { ClusterSettings } from './cluster-options.ts';

/** An ASK reply of a node that announces no host has the address `:7001`, for which node-redis has a node `null:7001`. */
export function findUnknownHosts(nodes: Map<string, unknown>): void {
  const get = nodes.get.bind(nodes);
  nodes.get = (address) => get(address) ?? (address.startsWith(':') ? get(`null${address}`) : undefined);
}

/** Returns where to connect for an address that a node has announced. node-redis writes an unknown host as `null`. */
export function locateNode(announced: string, { nodes, nodeAddressMap }: ClusterSettings): HostAndPort {
  const colon = announced.lastIndexOf(':');
  const host = announced.slice(0, colon);
  const port = Number(announced.slice(colon + 1));
  if (!['', '?', 'null'].includes(host)) return nodeAddressMap(announced) ?? { host, port };
  // An unknown host means the host that answered, which is one of those that the user has listed.
  const answered = nodes.find((node) => node.port === port) ?? nodes[0];
  const address = { host: answered?.host ?? 'localhost', port };
  return nodeAddressMap(`${address.host}:${port}`) ?? address;
}
