/** As express-session's stores are asked to call back. */
export type Callback<Value = unknown> = (error?: unknown, value?: Value) => unknown;

/** Calls back once, outside the promise: what the callback throws is its caller's, and no reason to call again. */
export function callBack<Value>(work: Promise<Value>, callback: Callback<Value> | undefined): void {
  work.then(
    (value) => process.nextTick(() => callback?.(null, value)),
    (error: unknown) => process.nextTick(() => callback?.(error)),
  );
}

/**
 * Answers as connect-redis's methods do. Without a callback the promise has the outcome of the work, and an error also
 * reaches `failed`, since express-session calls some methods and drops the promise. With a callback, the callback has
 * the outcome, and the promise resolves to what the callback returned.
 */
export function answer<Value>(
  work: Promise<Value>,
  callback: undefined,
  failed: (error: unknown) => void,
): Promise<Value>;
export function answer<Value>(
  work: Promise<Value>,
  callback: Callback<Value> | undefined,
  failed: (error: unknown) => void,
): Promise<unknown>;
export function answer<Value>(
  work: Promise<Value>,
  callback: Callback<Value> | undefined,
  failed: (error: unknown) => void,
): Promise<unknown> {
  if (typeof callback !== 'function') {
    work.catch(failed);
    return work;
  }
  return new Promise((resolve) => {
    callBack(work, (error, value) => resolve(callback(error, value)));
  });
}

/** What connect-redis's methods resolve to where they have no result: null. */
export async function withoutResult(work: Promise<void>): Promise<null> {
  await work;
  return null;
}
