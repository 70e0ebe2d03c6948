import { isIP } from 'node:net';
import type { Endpoint } from '../connection/endpoints.ts';

/** Warnings about connections that leave the private network without TLS or without a password. */
export function transportWarnings(endpoints: readonly Endpoint[]): readonly string[] {
  const remote = endpoints.filter(({ host }) => isRemote(host));
  const plain = remote.filter(({ isEncrypted }) => !isEncrypted).map(({ host }) => host);
  const open = remote.filter(({ hasPassword }) => !hasPassword).map(({ host }) => host);
  return [
    ...(plain.length === 0
      ? []
      : [
          `the connection to ${plain.join(', ')} is not encrypted; use TLS (rediss:), since sessions pass through it`,
        ]),
    ...(open.length === 0 ? [] : [`${open.join(', ')} is used without a password; set one, or an ACL user`]),
  ];
}

/** Names that are resolved inside a private network only. A name without a dot is one, too. */
const PRIVATE_NAME = /^[^.]*$|\.(?:localhost|local|internal|svc|lan|intranet|private|home\.arpa)\.?$/i;

/**
 * Loopback, link-local, private (RFC 1918), shared (RFC 6598) and unique local (RFC 4193) addresses, and IPv4 addresses
 * of these ranges inside of IPv6 ones.
 */
const PRIVATE_ADDRESS =
  /^(?:(?:::ffff:)?(?:127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|0\.0\.0\.0$)|::1?$|f[cd]|fe[89ab])/i;

/** Whether a host is outside of this machine and of its private network. A path of a socket is inside. */
export function isRemote(host: string): boolean {
  if (host.startsWith('/')) return false;
  return isIP(host) > 0 ? !PRIVATE_ADDRESS.test(host) : !PRIVATE_NAME.test(host);
}
