import type { ServerResponse } from 'node:http';
import { endUnserved, hasEnded } from './unserved.ts';

/**
 * Returns whether other code has begun the response, so that none can be sent. If that code has not ended it either,
 * the response is destroyed, as Express does after an error: no handler will end it, and its client would wait forever.
 */
export function closeIfBegun(res: ServerResponse): boolean {
  if (!res.headersSent) return false;
  if (!hasEnded(res)) {
    endUnserved(res);
    res.destroy();
  }
  return true;
}
