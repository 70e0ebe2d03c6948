import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { identityError, isIdentity } from '../base/identity.ts';
import { clientNetwork } from '../http/client-address.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress } from '../http/middleware.ts';
import { type ConcurrencySettings, MAX_LIMIT } from './options.ts';

/** The prefix length of the IPv6 network that a provider typically assigns to one customer. */
const IPV6_SUBNET = 56;

/** The key under which a request is counted; null skips the limit. */
export function keyOf(
  req: IncomingMessage,
  { key }: ConcurrencySettings,
): string | null | Promise<string | null> {
  if (key === undefined) return clientNetwork(req, IPV6_SUBNET, 'kit.concurrency');
  const own: unknown = withoutIdentityWatch(() => key(asExpress(req)));
  return isIdentity(own) ? own : Promise.resolve(own).then(checkedKey);
}

function checkedKey(own: unknown): string | null {
  if (own === null || isIdentity(own)) return own;
  const expected = 'a string that is not empty, or null to skip the limit';
  throw identityError('kit.concurrency: option `key`', own, expected);
}

export function limitOf(req: IncomingMessage, { limit }: ConcurrencySettings): number {
  if (typeof limit === 'number') return limit;
  const own: unknown = limit(asExpress(req));
  if (typeof own === 'number' && Number.isInteger(own) && own >= 1 && own <= MAX_LIMIT) return own;
  throw new ConfigError(
    `kit.concurrency: option \`limit\` returned ${describe(own)}; it must return a whole number from 1 to ${MAX_LIMIT}`,
  );
}
