export { sessionMiddleware } from './middleware.ts';
export type { CookieOptions, SessionOnError, SessionOptions } from './options.ts';
export { type SessionWatch, watchSession } from './watch.ts';
