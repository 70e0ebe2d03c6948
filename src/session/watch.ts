import type { IncomingMessage } from 'node:http';

/** Tells whether `req.session` was read since the watch began. */
export interface SessionWatch {
  readonly wasRead: boolean;
  stop(): void;
}

/**
 * Watches a request's session, so that a response that was made from it is not taken for everybody's. Also a
 * session that is mounted later is seen.
 */
export function watchSession(req: IncomingMessage): SessionWatch {
  let value: unknown = Reflect.get(req, 'session');
  let wasRead = false;
  Object.defineProperty(req, 'session', {
    configurable: true,
    enumerable: true,
    get() {
      wasRead = true;
      return value;
    },
    set(session: unknown) {
      value = session;
    },
  });
  return {
    get wasRead() {
      return wasRead;
    },
    stop() {
      // A destroyed session was deleted, and our accessor with it.
      if (Object.getOwnPropertyDescriptor(req, 'session')?.get === undefined) return;
      Object.defineProperty(req, 'session', { configurable: true, enumerable: true, writable: true, value });
    },
  };
}
