import type { ServerResponse } from 'node:http';
import { nativeFlag } from './response-head.ts';

const TAKING: unique symbol = Symbol('how the body is taken');

interface Taking {
  takes(): boolean;
  /** As Node says it. */
  needsDrain(): boolean;
}

/** A response whose body may be taken. */
export interface PacedResponse {
  [TAKING]?: Taking;
}

/** One 'drain' may move what is in between, such as a compression, by one piece only. */
const RESUME_EVERY_MS = 10;

/**
 * Takes the body of a response as fast as its handler makes it while `takes()` holds: bytes that its own client has not
 * read yet wait in Node's buffer, and the handler does not wait for 'drain'. `takes` bounds their number. Returns a
 * function to call when `takes()` begins to hold, which resumes a handler that waits already.
 */
export function suspendBackpressure(res: ServerResponse & PacedResponse, takes: () => boolean): () => void {
  const other = res[TAKING];
  const needsDrain = other?.needsDrain ?? nativeFlag(res, 'writableNeedDrain');
  res[TAKING] = { takes: () => takes() || other?.takes() === true, needsDrain };
  // `pipe()` waits for 'drain' where this says so, whatever `write()` returned.
  Object.defineProperty(res, 'writableNeedDrain', {
    configurable: true,
    get: () => !isBackpressureSuspended(res) && needsDrain(),
  });
  let timer: NodeJS.Timeout | undefined;
  return function resume() {
    clearTimeout(timer);
    if (!takes()) return;
    if (needsDrain()) res.emit('drain');
    timer = setTimeout(resume, RESUME_EVERY_MS).unref();
  };
}

export function isBackpressureSuspended(res: PacedResponse): boolean {
  return res[TAKING]?.takes() === true;
}
