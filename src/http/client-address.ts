import type { IncomingMessage } from 'node:http';
import { isIPv4, isIPv6 } from 'node:net';
import { BoundedMap } from '../base/bounded-map.ts';
import { RedisKitError } from '../base/errors.ts';

/**
 * The client's address: Express's `req.ip`, which follows the app's `trust proxy` setting, or else the address of the
 * socket. Undefined for a closed connection and for a Unix socket.
 */
export function clientAddress(req: IncomingMessage): string | undefined {
  const { ip } = req as { ip?: unknown };
  return typeof ip === 'string' && ip !== '' ? ip : req.socket?.remoteAddress;
}

/** The address that a request which has not yet entered an app of Express would have in it. */
export function clientAddressIn(
  app: { readonly request?: object } | undefined,
  req: IncomingMessage,
): string | undefined {
  const { headers, socket } = req;
  // Without the field, `trust proxy` does not matter.
  if (app?.request === undefined || headers['x-forwarded-for'] === undefined) return socket?.remoteAddress;
  const inApp = Object.create(app.request, { headers: { value: headers }, socket: { value: socket } });
  return clientAddress(inApp as IncomingMessage);
}

/** The default identity of a client: its address, or its IPv6 network. `where` names the kit's method in the error. */
export function clientNetwork(req: IncomingMessage, subnet: number | false, where: string): string {
  const address = clientAddress(req);
  if (address !== undefined) return knownNetworkOf(address, subnet);
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `${where}: the request has no client address (a Unix socket, or a closed connection); set the option \`key\``,
  );
}

/** The most memory for the networks of recent addresses. */
const NETWORKS_BYTES = 2 ** 20;

const networks = new BoundedMap<string>(NETWORKS_BYTES, (network) => network.length * 2);

/** As `networkOf`, which takes microseconds for an IPv6 address. An address without a colon is IPv4, or unknown text. */
function knownNetworkOf(address: string, subnet: number | false): string {
  if (!/[:%[]/.test(address)) return address;
  const name = `${subnet} ${address}`;
  let network = networks.get(name);
  if (network === undefined) {
    network = networkOf(address, subnet);
    networks.set(name, network);
  }
  return network;
}

/** The proxies that the app trusts to report the client's address: `none` without Express or without `trust proxy`. */
export function proxyTrust(req: IncomingMessage): 'all' | 'none' | 'some' {
  const { app } = req as { app?: { get?: (name: string) => unknown } };
  const setting = typeof app?.get === 'function' ? app.get('trust proxy') : undefined;
  if (setting === true) return 'all';
  return setting === undefined || setting === false ? 'none' : 'some';
}

/**
 * The part of an address that identifies a client: an IPv4 address, mapped into IPv6 or not, or the first `subnet` bits
 * of an IPv6 address. One customer has a whole IPv6 network, and could send each request from another address.
 */
export function networkOf(address: string, subnet: number | false): string {
  const bare = bareAddress(address);
  if (!isIPv6(bare)) return bare;
  const groups = ipv6Groups(bare);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high = 0, low = 0] = groups.slice(6);
    return `${high >> 8}.${high & 0xff}.${low >> 8}.${low & 0xff}`;
  }
  const bits = subnet === false ? 128 : subnet;
  const masked = groups.map((group, index) => {
    const prefixBits = Math.min(16, Math.max(0, bits - index * 16));
    return group & (0xffff << (16 - prefixBits)) & 0xffff;
  });
  return `${masked.map((group) => group.toString(16)).join(':')}/${bits}`;
}

/** Removes the zone, and the port and brackets that some proxies write into X-Forwarded-For. */
function bareAddress(address: string): string {
  const [, bracketed, dotted] = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/.exec(address) ?? [];
  return (bracketed ?? dotted ?? address).split('%', 1)[0] ?? '';
}

function ipv6Groups(address: string): number[] {
  const dotted = address.slice(address.lastIndexOf(':') + 1);
  let text = address;
  if (isIPv4(dotted)) {
    const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number);
    text = `${address.slice(0, -dotted.length)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [left = '', right] = text.split('::');
  const read = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const head = read(left);
  const tail = right === undefined ? [] : read(right);
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
}
