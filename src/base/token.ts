import { randomBytes } from 'node:crypto';

const PROCESS = randomBytes(12).toString('base64url');
let made = 0;

/** A name that nobody else has given: by random bytes for the process, which are dear, and a count. */
export function freshToken(): string {
  return `${PROCESS}${(++made).toString(36)}`;
}
