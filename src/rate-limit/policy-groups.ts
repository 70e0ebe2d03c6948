import type { IncomingMessage } from 'node:http';
import { identityError, isIdentity } from '../base/identity.ts';
import { isThenable } from '../base/thenable.ts';
import { clientNetwork } from '../http/client-address.ts';
import { withoutIdentityWatch } from '../http/identity/identity-watch.ts';
import { asExpress, type Req } from '../http/middleware.ts';
import { isSocketGone } from '../http/response/unserved.ts';
import type { PolicyGroup } from './decision.ts';
import type { PolicyWithLimit } from './group-factory.ts';
import type { PolicyLimiter } from './limiter.ts';
import type { MisuseWatch } from './misuse.ts';
import type { PolicyWithKey, RateLimitSettings } from './options.ts';

/**
 * The policies that apply to a request, in one group per identity. Empty when every `key` returns null. A promise only
 * if a key is one: most limiters count the client's address.
 */
export function policyGroupsOf(
  req: IncomingMessage,
  settings: RateLimitSettings,
  limiter: PolicyLimiter,
  misuse: MisuseWatch,
): readonly PolicyGroup[] | Promise<readonly PolicyGroup[]> {
  if (!settings.hasOneGroup) return severalGroupsOf(req, settings, limiter, misuse);
  const id = commonIdOf(req, settings, misuse);
  if (typeof id === 'string') return [limiter.groups.ofAll(id)];
  return id === null ? [] : id.then((each) => (each === null ? [] : [limiter.groups.ofAll(each)]));
}

async function severalGroupsOf(
  req: IncomingMessage,
  settings: RateLimitSettings,
  limiter: PolicyLimiter,
  misuse: MisuseWatch,
): Promise<readonly PolicyGroup[]> {
  const request = asExpress(req);
  const byId = new Map<string, PolicyWithLimit[]>();
  let commonId: string | null | undefined;
  for (const { policy, key } of settings.policies) {
    if (key === undefined && commonId === undefined) commonId = await commonIdOf(req, settings, misuse);
    const id = key === undefined ? commonId : await callKey(key, request, misuse);
    if (id === null || id === undefined) continue;
    const limit = typeof policy.limit === 'function' ? policy.limit(request) : policy.limit;
    const policies = byId.get(id);
    if (policies === undefined) byId.set(id, [{ policy, limit }]);
    else policies.push({ policy, limit });
  }
  return [...byId].map(([id, policies]) => limiter.groups.of(id, policies));
}

/** The identity for all policies that have no `key` of their own. */
function commonIdOf(
  req: IncomingMessage,
  { key, ipv6Subnet }: RateLimitSettings,
  misuse: MisuseWatch,
): string | null | Promise<string | null> {
  if (key !== undefined) return callKey(key, asExpress(req), misuse);
  misuse.checkAddress(req);
  return clientNetwork(req, ipv6Subnet, 'kit.rateLimit');
}

function callKey(
  key: NonNullable<PolicyWithKey['key']>,
  request: Req,
  misuse: MisuseWatch,
): string | null | Promise<string | null> {
  const id: unknown = withoutIdentityWatch(() => key(request));
  if (!isThenable(id)) return checkedId(id, request, misuse);
  return Promise.resolve(id).then((settled) => checkedId(settled, request, misuse));
}

function checkedId(id: unknown, request: Req, misuse: MisuseWatch): string | null {
  if (id === null || isIdentity(id)) return id;
  const expected = 'a string that is not empty, or null to skip the limit';
  const error = identityError('kit.rateLimit: option `key`', id, expected);
  // After the client has gone, the request has no address, so a missing id is not a mistake of the app.
  if (!isSocketGone(request)) misuse.warn(error.message);
  throw error;
}
