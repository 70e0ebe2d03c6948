import { describe } from './describe.ts';
import { ConfigError } from './errors.ts';

/** The name is sent with every message to every subscriber, and matching a pattern takes time for each of its bytes. */
const MAX_NAME_BYTES = 512;

/** Throws a ConfigError for a value that cannot be the name of a channel or a pattern. `what` names the value. */
export function checkChannelName(what: string, name: unknown): asserts name is string {
  if (typeof name !== 'string' || name === '') {
    throw new ConfigError(`${what} is ${describe(name)}; it must be a string that is not empty`);
  }
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) {
    throw new ConfigError(`${what} has ${bytes} bytes; it must have at most ${MAX_NAME_BYTES}`);
  }
  // All lone surrogates would become U+FFFD in UTF-8, and so share a channel.
  if (/\p{Cs}/u.test(name)) {
    throw new ConfigError(`${what} has a lone surrogate, which UTF-8 cannot represent; remove it`);
  }
}
