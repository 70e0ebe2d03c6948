export { sessionMiddleware } from './middleware.ts';
export type { CookieOptions, SessionOnError, SessionOptions } from './options.ts';
export { watchSession } from './watch.ts';
