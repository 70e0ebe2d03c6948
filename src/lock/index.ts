export type { LockHandle } from './handle.ts';
export {
  type AcquireOptions,
  type Json,
  KitLocks,
  type LockInspection,
  type Locks,
  type TryAcquireOptions,
} from './locks.ts';
export { type LockHandler, lockMiddleware } from './middleware.ts';
export type { LockConflict, LockOnError, LockOptions } from './options.ts';
