export type { SessionAdmin, SessionInfo } from './admin.ts';
export type { CookieOptions } from './cookie-options.ts';
export { type SessionMethods, sessionFeature } from './feature.ts';
export type { LoginOptions } from './login.ts';
export type { SessionOnError, SessionOptions } from './options.ts';
// The methods and properties that are added to the types of express-session.
export type {} from './session-methods.ts';
export type { SessionStore } from './store/callback-store.ts';
export type { StoreOptions } from './store/store-options.ts';
export type { UserLimit } from './user-index.ts';
