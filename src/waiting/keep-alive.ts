import { AsyncLocalStorage } from 'node:async_hooks';

const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/** Without it, the timer would keep alive the async context of the request that happens to start it. */
const outsideRequests = AsyncLocalStorage.snapshot();
let pending = 0;
let timer: NodeJS.Timeout | undefined;

/**
 * Keeps the process alive until a promise settles that only an alarm may settle. Alarms do not keep it alive: a script
 * that awaits the promise at its top level would exit with code 13.
 */
export async function keepProcessAlive<Value>(promise: Promise<Value>): Promise<Value> {
  if (pending++ === 0) timer = outsideRequests(() => setInterval(() => undefined, LONGEST_INTERVAL_MS));
  try {
    return await promise;
  } finally {
    if (--pending === 0) clearInterval(timer);
  }
}
