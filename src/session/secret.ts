import { createSecretKey, KeyObject } from 'node:crypto';
import type { OptionReader } from '../base/option-reader.ts';

/** What express-session takes as a secret: a text, or bytes in any form that `crypto.createHmac` takes. */
export type CookieSecret = string | NodeJS.ArrayBufferView | KeyObject;

/** The first signs, all verify. */
export type Secrets = readonly [string | KeyObject, ...(string | KeyObject)[]];

/** Shorter secrets are guessed. */
const MIN_LENGTH = 8;

/** Undefined where no secret is given. */
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

/** Bytes become a KeyObject: a copy, which the app cannot overwrite and no log can show. */
function usableSecret(value: unknown): string | KeyObject | undefined {
  if (typeof value === 'string') return value.length >= MIN_LENGTH ? value : undefined;
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return bytes.length >= MIN_LENGTH ? createSecretKey(bytes) : undefined;
  }
  // Undefined for keys that are not secret.
  if (value instanceof KeyObject) return (value.symmetricKeySize ?? 0) >= MIN_LENGTH ? value : undefined;
  return undefined;
}
