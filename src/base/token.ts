import { randomBytes } from 'node:crypto';

const PROCESS = randomBytes(12).toString('base64url');
let count = 0;

/** A unique token: random bytes, which are expensive, once per process, followed by a counter. */
export function freshToken(): string {
  return `${PROCESS}${(++count).toString(36)}`;
}
