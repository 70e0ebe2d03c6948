// Not the global one, which the fake timers of an app's tests replace.
import { setImmediate } from 'node:timers';

let turn = 0;
let isScheduled = false;

/**
 * A number that grows between two turns of the event loop. Sockets are read, and most of their requests handled, before
 * the number grows; node-redis writes the commands of a turn at the same point.
 */
export function eventLoopTurn(): number {
  if (!isScheduled) {
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      turn++;
    });
  }
  return turn;
}
