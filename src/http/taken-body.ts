import type { ServerResponse } from 'node:http';
import { nativeFlag } from './response-head.ts';

const TAKES: unique symbol = Symbol('whether the body is taken as fast as it is made');

/** A response that may have one. */
export interface TakenBody {
  [TAKES]?: () => boolean;
}

/**
 * Takes the body of a response as fast as its handler makes it while `takes()` holds: bytes that its own client has not read
 * yet wait in Node's buffer, and the handler does not wait for 'drain'. `takes` bounds their number.
 */
export function takeBody(res: ServerResponse & TakenBody, takes: () => boolean): void {
  const others = res[TAKES];
  res[TAKES] = others === undefined ? takes : () => takes() || others();
  if (others !== undefined) return;
  const needsDrain = nativeFlag(res, 'writableNeedDrain');
  // `pipe()` waits for 'drain' where this says so, whatever `write()` returned.
  Object.defineProperty(res, 'writableNeedDrain', {
    configurable: true,
    get: () => !isBodyTaken(res) && needsDrain(),
  });
}

export function isBodyTaken(res: TakenBody): boolean {
  return res[TAKES]?.() === true;
}
