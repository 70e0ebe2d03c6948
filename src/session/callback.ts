/** As express-session's stores are asked to call back. */
export type Callback<Value = unknown> = (error?: unknown, value?: Value) => void;

/** Calls back once, outside the promise: what the callback throws is its caller's, and no reason to call again. */
export function callBack<Value>(work: Promise<Value>, callback: Callback<Value> | undefined): void {
  work.then(
    (value) => process.nextTick(() => callback?.(null, value)),
    (error: unknown) => process.nextTick(() => callback?.(error)),
  );
}
