export { type MembersMethods, membersFeature } from './feature.ts';
export type { Members } from './members.ts';
export type { MembersAddOptions, MembersListOptions, MembersOptions } from './options.ts';
