import { randomBytes } from 'node:crypto';

const PROCESS = randomBytes(12).toString('base64url');
let count = 0;

/** Returns a unique token: random bytes of this process and a counter. New random bytes per token are expensive. */
export function freshToken(): string {
  return `${PROCESS}${(++count).toString(36)}`;
}
