import { describe } from './describe.ts';
import { RedisKitError } from './errors.ts';

/** Whether a value can identify a client, a resource or a scope. An empty string would identify all of them alike. */
export function isIdentity(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** The error of a callback that returned no identity. `callback` names it as the user wrote it: 'kit.lock: option `key`'. */
export function identityError(callback: string, value: unknown, expected: string): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_NO_IDENTITY',
    `${callback} returned ${kindOf(value)}; it must return ${expected}`,
  );
}

/**
 * The kind of a value that was meant to be an identity. The value itself may be a secret, so no message shows it unless it
 * is too short for one, like NaN.
 */
export function kindOf(value: unknown): string {
  if (value === '') return "an empty string ('')";
  if (typeof value === 'number' && String(value).length <= 3) return `a number (${value})`;
  return value === undefined || typeof value === 'object' ? describe(value) : `a ${typeof value}`;
}
