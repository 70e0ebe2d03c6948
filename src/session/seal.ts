import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

/** Encrypts the stored bytes of sessions, or leaves them plain. */
export interface Seal {
  /** Returns the bytes to store. With encryption, only `open` with the same `handle` can decrypt them. */
  close(plain: Buffer, handle: string): Buffer;
  /** Returns the plain bytes; undefined for bytes that this seal cannot open. */
  open(stored: Buffer, handle: string): Buffer | undefined;
}

const PLAIN = 0;
const AES_256_GCM = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** No encryption. Sessions are stored as [0][bytes]. */
export const noSeal: Seal = {
  close: (plain) => Buffer.concat([Buffer.of(PLAIN), plain]),
  open: (stored) => (stored[0] === PLAIN ? stored.subarray(1) : undefined),
};

/**
 * AES-256-GCM. Sessions are stored as [1][nonce, 12 bytes][tag, 16 bytes][ciphertext]. The first key encrypts, all keys
 * decrypt. Plain bytes are not opened: otherwise an attacker who can write to Redis could forge sessions.
 */
export function aesSeal(keys: readonly Uint8Array[]): Seal {
  const [newest] = keys;
  if (newest === undefined) throw new TypeError('a seal needs a key');
  return {
    close(plain, handle) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', newest, nonce).setAAD(Buffer.from(handle));
      const text = [cipher.update(plain), cipher.final()];
      return Buffer.concat([Buffer.of(AES_256_GCM), nonce, cipher.getAuthTag(), ...text]);
    },
    open(stored, handle) {
      const textAt = 1 + NONCE_BYTES + TAG_BYTES;
      if (stored[0] !== AES_256_GCM || stored.length < textAt) return undefined;
      for (const key of keys) {
        const decipher = createDecipheriv('aes-256-gcm', key, stored.subarray(1, 1 + NONCE_BYTES));
        decipher.setAAD(Buffer.from(handle)).setAuthTag(stored.subarray(1 + NONCE_BYTES, textAt));
        try {
          return Buffer.concat([decipher.update(stored.subarray(textAt)), decipher.final()]);
        } catch {
          // Encrypted with another key or for another handle, or changed: the next key is tried.
        }
      }
      return undefined;
    },
  };
}
