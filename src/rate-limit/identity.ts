import type { IncomingMessage } from 'node:http';
import { describe } from '../base/check.ts';
import { RedisKitError } from '../base/errors.ts';
import { clientAddress, networkOf } from '../http/client-address.ts';
import { asExpress, type Req } from '../http/middleware.ts';
import type { Share } from './ask.ts';
import type { LimiterCore } from './limiter.ts';
import type { MisuseWatch } from './misuse.ts';
import type { PolicyWithKey, RateLimitSettings } from './options.ts';

/** Whom a request counts for: its policies, gathered by identity. Empty when every key says null. */
export async function sharesOf(
  req: IncomingMessage,
  settings: RateLimitSettings,
  limiter: LimiterCore,
  misuse: MisuseWatch,
): Promise<readonly Share[]> {
  const request = asExpress(req);
  const byId = new Map<string, Share['policies'][number][]>();
  let common: Promise<string | null> | undefined;
  for (const { policy, key } of settings.policies) {
    common ??= key === undefined ? identify(req, settings, misuse) : undefined;
    const id = key === undefined ? await common : await ask(key, request, misuse);
    if (id === null || id === undefined) continue;
    const limit = typeof policy.limit === 'function' ? policy.limit(request) : policy.limit;
    const policies = byId.get(id) ?? [];
    policies.push({ policy, limit });
    byId.set(id, policies);
  }
  return [...byId].map(([id, policies]) => limiter.share(id, policies));
}

async function identify(
  req: IncomingMessage,
  { key, ipv6Subnet }: RateLimitSettings,
  misuse: MisuseWatch,
): Promise<string | null> {
  if (key !== undefined) return ask(key, asExpress(req), misuse);
  misuse.checkAddress(req);
  const address = clientAddress(req);
  if (address !== undefined) return networkOf(address, ipv6Subnet);
  throw new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    'kit.rateLimit: the request has no client address (a Unix socket, or a client that has gone); give the option `key`',
  );
}

async function ask(
  key: NonNullable<PolicyWithKey['key']>,
  request: Req,
  misuse: MisuseWatch,
): Promise<string | null> {
  const id: unknown = await key(request);
  if (typeof id === 'string' || id === null) return id;
  const message = `kit.rateLimit: option \`key\` returned ${describe(id)}; it must return a string, or null to skip the limit`;
  misuse.checkKey(message);
  throw new RedisKitError('ERR_REDIS_KIT_NO_IDENTITY', message);
}
