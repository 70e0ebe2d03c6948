import type { IncomingMessage } from 'node:http';
import { identityError, isIdentity } from '../base/identity.ts';
import { clientNetwork } from '../http/client-address.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Req } from '../http/middleware.ts';
import { isSocketGone } from '../http/response/unserved.ts';
import type { PolicyGroup } from './decision.ts';
import type { PolicyWithLimit } from './group-factory.ts';
import type { PolicyLimiter } from './limiter.ts';
import type { MisuseWatch } from './misuse.ts';
import type { PolicyWithKey, RateLimitSettings } from './options.ts';

/** The policies that apply to a request, in one group per identity. Empty when every `key` returns null. */
export async function policyGroupsOf(
  req: IncomingMessage,
  settings: RateLimitSettings,
  limiter: PolicyLimiter,
  misuse: MisuseWatch,
): Promise<readonly PolicyGroup[]> {
  const request = asExpress(req);
  const byId = new Map<string, PolicyWithLimit[]>();
  let commonId: Promise<string | null> | undefined;
  for (const { policy, key } of settings.policies) {
    commonId ??= key === undefined ? commonIdOf(req, settings, misuse) : undefined;
    const id = key === undefined ? await commonId : await callKey(key, request, misuse);
    if (id === null || id === undefined) continue;
    const limit = typeof policy.limit === 'function' ? policy.limit(request) : policy.limit;
    const policies = byId.get(id);
    if (policies === undefined) byId.set(id, [{ policy, limit }]);
    else policies.push({ policy, limit });
  }
  return [...byId].map(([id, policies]) => limiter.group(id, policies));
}

/** The identity for all policies that have no `key` of their own. */
async function commonIdOf(
  req: IncomingMessage,
  { key, ipv6Subnet }: RateLimitSettings,
  misuse: MisuseWatch,
): Promise<string | null> {
  if (key !== undefined) return callKey(key, asExpress(req), misuse);
  misuse.checkAddress(req);
  return clientNetwork(req, ipv6Subnet, 'kit.rateLimit');
}

async function callKey(
  key: NonNullable<PolicyWithKey['key']>,
  request: Req,
  misuse: MisuseWatch,
): Promise<string | null> {
  const id: unknown = await withoutIdentityWatch(() => key(request));
  if (id === null || isIdentity(id)) return id;
  const expected = 'a string that is not empty, or null to skip the limit';
  const error = identityError('kit.rateLimit: option `key`', id, expected);
  // After the client has gone, the request has no address, so a missing id is not a mistake of the app.
  if (!isSocketGone(request)) misuse.warn(error.message);
  throw error;
}
