import type { IncomingMessage, ServerResponse } from 'node:http';
import { isHeadPassing } from '../http/before-end.ts';

/** Tells whether a request's session was read since the watch began. */
export interface SessionWatch {
  readonly wasRead: boolean;
  stop(): void;
}

/** Where a handler finds whose request it is; `user` is what Passport and its like make of the session. */
const NAMES = ['session', 'sessionID', 'sessionStore', 'user'] as const;

/** More than 0 while those look who only keep the session, and make nothing of it. */
let keepers = 0;

/** Reads of the session in here are none of a handler's. Synchronous, since others run in between otherwise. */
export function asKeeper<Result>(work: () => Result): Result {
  keepers++;
  try {
    return work();
  } finally {
    keepers--;
  }
}

/**
 * Watches a request's session, so that a response that was made from it is not taken for everybody's. Also a
 * session that is mounted later is seen.
 */
export function watchSession(req: IncomingMessage, res: ServerResponse): SessionWatch {
  let wasRead = false;
  const restores = NAMES.filter((name) => name === 'session' || name in req).map((name) =>
    watchProperty(req, name, () => {
      // A session middleware above looks at the session while the head leaves.
      wasRead ||= keepers === 0 && !isHeadPassing(res);
    }),
  );
  return {
    get wasRead() {
      return wasRead;
    },
    stop() {
      for (const restore of restores) restore();
    },
  };
}

function watchProperty(req: IncomingMessage, name: string, onRead: () => void): () => void {
  let value: unknown = Reflect.get(req, name);
  Object.defineProperty(req, name, {
    configurable: true,
    enumerable: true,
    get() {
      onRead();
      return value;
    },
    set(next: unknown) {
      value = next;
    },
  });
  return function restore() {
    // A destroyed session was deleted, and our accessor with it.
    if (Object.getOwnPropertyDescriptor(req, name)?.get === undefined) return;
    Object.defineProperty(req, name, { configurable: true, enumerable: true, writable: true, value });
  };
}
