import { describe } from './describe.ts';
import { ConfigError, RedisKitError } from './errors.ts';

/** Whether a value can identify a client, resource or scope. An empty string would be shared by all that lack an id. */
export function isIdentity(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** Returns an argument that must be an identity. Throws a ConfigError for another value; `what` names the argument. */
export function checkedIdentity(what: string, value: unknown): string {
  if (isIdentity(value)) return value;
  throw new ConfigError(`${what} is ${describe(value)}; it must be a string that is not empty`);
}

/** The error for a callback that returned no identity. `callback` names the option, as in 'kit.lock: option `key`'. */
export function identityError(callback: string, value: unknown, expected: string): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `${callback} returned ${kindOf(value)}; it must return ${expected}`,
  );
}

/**
 * Describes a value that was meant to be an identity. The value may be a secret, so the description contains it only if
 * it is too short for a secret, like NaN.
 */
export function kindOf(value: unknown): string {
  if (value === '') return "an empty string ('')";
  if (typeof value === 'number' && String(value).length <= 3) return `a number (${value})`;
  return value === undefined || typeof value === 'object' ? describe(value) : `a ${typeof value}`;
}
