import { describe } from './describe.ts';
import { ConfigError } from './errors.ts';

/**
 * Returns the result of a callback that must be true or false. Throws a ConfigError for another value: as a truth value,
 * a promise would always be true. `callback` names the option, as in 'kit.cache: option `skip`'.
 */
export function checkedBoolean(callback: string, value: unknown): boolean {
  if (typeof value === 'boolean') return value;
  throw new ConfigError(`${callback} returned ${describe(value)}; it must return true or false`);
}
