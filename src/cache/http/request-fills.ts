import type { IncomingMessage } from 'node:http';

const FILLS: unique symbol = Symbol('the keys that the request fills');

type Filling = IncomingMessage & { [FILLS]?: Set<string> };

/** Remembers that the response to the request will be stored under a key. */
export function noteFill(req: Filling, key: string): void {
  req[FILLS] ??= new Set();
  req[FILLS].add(key);
}

/** Whether a cache above fills the key with the response to this request: a cache below would wait for its own request. */
export function isFilling(req: Filling, key: string): boolean {
  return req[FILLS]?.has(key) === true;
}
