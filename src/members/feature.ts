import type { Keys } from '../base/keys.ts';
import { KitMembers, type Members, type MembersDeps } from './members.ts';
import type { MembersOptions } from './options.ts';

export interface MembersMethods {
  /** Returns sets of members that expire: subscriptions, followers, a deny list of tokens. */
  members(name: string, options: MembersOptions): Members;
}

export function membersFeature(kit: Omit<MembersDeps, 'keys'>) {
  return (keys: Keys): MembersMethods => ({
    members: (name: string, options: MembersOptions) => new KitMembers(name, options, { ...kit, keys }),
  });
}
