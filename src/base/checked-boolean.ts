import { describe } from './describe.ts';
import { ConfigError } from './errors.ts';

/**
 * Returns the result of a callback that must be true or false. Throws a ConfigError for another value: as a truth value,
 * a promise would always be true. `callback` names the option, as in 'kit.cache: option `skip`'.
 */
export function checkedBoolean(callback: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  const isPromise = value instanceof Promise;
  // No caller receives the promise, and an unhandled rejection would end the process.
  if (isPromise) value.catch(() => undefined);
  throw new ConfigError(
    `${callback} returned ${isPromise ? 'a promise' : describe(value)}; it must return true or false`,
  );
}
