import { createSecretKey, KeyObject, randomBytes } from 'node:crypto';
import { ConfigError } from '../base/errors.ts';
import type { OptionReader } from '../base/option-reader.ts';
import type { Reporter } from '../base/reporter.ts';

/** A secret for signed cookies: a string, or bytes in a view or a KeyObject. */
export type CookieSecret = string | NodeJS.ArrayBufferView | KeyObject;

/** The secrets of one middleware: the first secret signs cookies, all secrets verify cookies. */
export type Secrets = readonly [string | KeyObject, ...(string | KeyObject)[]];

/** The fewest characters or bytes of a secret. Shorter secrets can be guessed. */
const MIN_LENGTH = 8;

/** Reads the option `secret`; undefined when the option is missing. */
export function resolveSecret(reader: OptionReader): Secrets | undefined {
  const given = reader.value('secret');
  if (given === undefined) return undefined;
  const secrets = (Array.isArray(given) ? given : [given]).map(usableSecret);
  const [first, ...others] = secrets.filter((secret) => secret !== undefined);
  if (first !== undefined && others.length === secrets.length - 1) return [first, ...others];
  throw reader.secretError(
    'secret',
    `it must be a string of at least ${MIN_LENGTH} characters (better 32 random bytes), a Buffer of at least ${MIN_LENGTH} bytes, or an array of them`,
  );
}

/** Turns bytes into a KeyObject: a copy that the app cannot overwrite and no log shows. Undefined when unusable. */
function usableSecret(value: unknown): string | KeyObject | undefined {
  if (typeof value === 'string') return value.length >= MIN_LENGTH ? value : undefined;
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return bytes.length >= MIN_LENGTH ? createSecretKey(bytes) : undefined;
  }
  // The size is undefined for public and private keys.
  if (value instanceof KeyObject) return (value.symmetricKeySize ?? 0) >= MIN_LENGTH ? value : undefined;
  return undefined;
}

/** The secrets of the option; without the option, a random secret on `memory:`, else an error. */
export function secretsOf(
  secrets: Secrets | undefined,
  { isMemory, reporter }: { readonly isMemory: boolean; readonly reporter: Reporter },
): Secrets {
  if (secrets !== undefined) return secrets;
  if (!isMemory) {
    throw new ConfigError(
      'kit.session: option `secret` is missing; give a long random string that all processes share, for example from process.env.SESSION_SECRET',
    );
  }
  reporter.warning(
    'kit.session has no `secret`; a random secret is used, which is lost when this process ends',
  );
  return [randomBytes(32).toString('base64url')];
}
