/** The callback of express-session's store methods. */
export type Callback<Value = unknown> = (error?: unknown, value?: Value) => unknown;

/**
 * Passes the result of a promise to a callback, once. The callback runs outside the promise, so that an error that the
 * callback throws is an uncaught exception and does not call the callback again.
 */
export function invokeCallback<Value>(work: Promise<Value>, callback: Callback<Value> | undefined): void {
  work.then(
    (value) => process.nextTick(() => callback?.(null, value)),
    (error: unknown) => process.nextTick(() => callback?.(error)),
  );
}

/**
 * Returns the same promise as connect-redis's methods do. Without a callback, the promise has the result of the work,
 * and an error is also reported, since express-session drops some of these promises. With a callback, the callback gets
 * the result, and the promise resolves to the return value of the callback, which may have any type.
 */
export function promiseOrCallback<Value>(
  work: Promise<Value>,
  callback: Callback<Value> | undefined,
  reportFailure: (error: unknown) => void,
): Promise<Value> {
  if (typeof callback !== 'function') {
    work.catch(reportFailure);
    return work;
  }
  return new Promise((resolve) => {
    invokeCallback(work, (error, value) => resolve(callback(error, value) as Value));
  });
}

/** Waits for the work and resolves to null, as those methods of connect-redis do that have no result. */
export async function resolveToNull(work: Promise<void>): Promise<null> {
  await work;
  return null;
}
