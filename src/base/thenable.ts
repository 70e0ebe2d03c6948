/** Whether `await` waits for the value. Promises of other libraries and realms are no instances of Promise. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}
