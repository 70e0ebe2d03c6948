import type { IncomingMessage } from 'node:http';
import { describe } from '../base/describe.ts';
import { RedisKitError } from '../base/errors.ts';
import { clientNetwork } from '../http/client-address.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Req } from '../http/middleware.ts';
import { isSocketGone } from '../http/response/unserved.ts';
import type { Share } from './ask.ts';
import type { AskedPolicy, LimiterCore } from './limiter.ts';
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
  const byId = new Map<string, AskedPolicy[]>();
  let common: Promise<string | null> | undefined;
  for (const { policy, key } of settings.policies) {
    common ??= key === undefined ? identify(req, settings, misuse) : undefined;
    const id = key === undefined ? await common : await ask(key, request, misuse);
    if (id === null || id === undefined) continue;
    const asked = {
      policy,
      limit: typeof policy.limit === 'function' ? policy.limit(request) : policy.limit,
    };
    const policies = byId.get(id);
    if (policies === undefined) byId.set(id, [asked]);
    else policies.push(asked);
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
  return clientNetwork(req, ipv6Subnet, 'kit.rateLimit');
}

async function ask(
  key: NonNullable<PolicyWithKey['key']>,
  request: Req,
  misuse: MisuseWatch,
): Promise<string | null> {
  const id: unknown = await withoutIdentityWatch(() => key(request));
  if ((typeof id === 'string' && id !== '') || id === null) return id;
  // Of what kind, and not what: it may be a secret, and would be told anew for each.
  const message = `kit.rateLimit: option \`key\` returned ${kindOf(id)}, which would be one limit for many clients; it must return a string that is not empty, or null to skip the limit`;
  if (!isSocketGone(request)) misuse.tell(message);
  throw new RedisKitError('ERR_REDIS_KIT_NO_IDENTITY', message);
}

function kindOf(id: unknown): string {
  if (id === '') return 'an empty string';
  return id === undefined || typeof id === 'object' ? describe(id) : `a ${typeof id}`;
}
