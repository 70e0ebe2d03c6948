export { type LockMethods, lockFeature } from './feature.ts';
export type { LockHandle } from './handle.ts';
export type { AcquireOptions, LockInspection, Locks, TryAcquireOptions } from './kit-locks.ts';
export type { LockHandler } from './middleware.ts';
export type { LockConflict, LockOnError, LockOptions } from './options.ts';
