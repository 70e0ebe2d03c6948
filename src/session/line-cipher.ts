import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { type LineChange, lineStart, SEAL_BYTES } from './operations/lines.ts';

const NONCE_BYTES = 12;

/** The characters of the keyed hash that names a sealed line: 132 bits. */
const HASH_LENGTH = 22;

/**
 * Encrypts the lines of stored objects with AES-256-GCM. A sealed line has a keyed hash in place of its name. Its value
 * is the encrypted plain line, with the name. It opens only at its place and under its hash. `place` identifies the
 * session and the object.
 */
export class LineCipher {
  readonly #key: KeyObject;
  readonly #nameKey: KeyObject;

  constructor(key: Uint8Array) {
    this.#key = createSecretKey(key);
    this.#nameKey = createSecretKey(
      new Uint8Array(hkdfSync('sha256', key, '', 'redis-kit session names', 32)),
    );
  }

  /** The beginning of the sealed line of a key. */
  startOf(name: string, place: string): string {
    return startOfHash(this.#hashOf(name, place));
  }

  close(name: string, value: string, place: string): LineChange {
    const hash = this.#hashOf(name, place);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(place + hash));
    const text = Buffer.concat([cipher.update(lineStart(name).slice(1) + value, 'utf8'), cipher.final()]);
    const sealed = Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64url');
    return { start: startOfHash(hash), value: `"${sealed}"` };
  }

  /** Returns the plain line without its line feed; undefined if this key cannot open it. */
  open(hash: string, sealed: Buffer, place: string): string | undefined {
    return this.openBytes(sealed, place + hash)?.toString('utf8');
  }

  /** Returns the plain bytes; undefined if they were encrypted with another key or for another purpose, or changed. */
  openBytes(sealed: Buffer, purpose: string): Buffer | undefined {
    if (sealed.length < SEAL_BYTES) return undefined;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, sealed.subarray(0, NONCE_BYTES));
    decipher.setAAD(Buffer.from(purpose)).setAuthTag(sealed.subarray(NONCE_BYTES, SEAL_BYTES));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(SEAL_BYTES)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  #hashOf(name: string, place: string): string {
    // The JSON of a name, since lone surrogates have no UTF-8.
    const hmac = createHmac('sha256', this.#nameKey).update(place).update(JSON.stringify(name));
    return hmac.digest('base64url').slice(0, HASH_LENGTH);
  }
}

function startOfHash(hash: string): string {
  return `\n"${hash}":`;
}
