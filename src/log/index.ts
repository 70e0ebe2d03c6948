export type { LogEntry } from './entry.ts';
export { type Log, type LogMethods, logFeature } from './feature.ts';
export type { LogListener } from './follower.ts';
export type { FollowOptions } from './followers.ts';
export type { Hook } from './hooks.ts';
export type { RequestEvent } from './middleware.ts';
export type { LogOptions, WriteBehindOptions } from './options.ts';
