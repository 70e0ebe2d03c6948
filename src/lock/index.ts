export type { LockHandle } from './handle.ts';
export { type AcquireOptions, LockRoom, type Locks } from './locks.ts';
export { lockMiddleware } from './middleware.ts';
export type { LockConflict, LockOnError, LockOptions } from './options.ts';
