import type { IncomingMessage } from 'node:http';
import type { Reporter } from '../base/reporter.ts';
import { proxyTrust } from '../http/client-address.ts';

/**
 * Detects mistakes in the use of one limiter that go unnoticed in development and fail in production. Each mistake is
 * logged and emitted once; no decision depends on it.
 */
export class MisuseWatch {
  readonly #reporter: Reporter;
  readonly #name: string;
  readonly #countedRequests = new WeakSet<IncomingMessage>();

  constructor(reporter: Reporter, name: string) {
    this.#reporter = reporter;
    this.#name = name;
  }

  checkAddress(req: IncomingMessage): void {
    if (req.headers['x-forwarded-for'] === undefined) return;
    const trust = proxyTrust(req);
    if (trust === 'all') {
      this.warn(
        `Express's 'trust proxy' is true, so a client can write any address into X-Forwarded-For and pass every limit; set it to the number or the addresses of your proxies`,
      );
    } else if (trust === 'none') {
      this.warn(
        `X-Forwarded-For arrives, but 'trust proxy' is not set, so all clients behind the proxy share its address and one limit; set it to the number or the addresses of your proxies, or give the option \`key\``,
      );
    }
  }

  checkCountedTwice(req: IncomingMessage): void {
    if (this.#countedRequests.has(req)) {
      this.warn(`the limiter '${this.#name}' counts the same request twice; mount it once`);
    }
    this.#countedRequests.add(req);
  }

  warn(message: string): void {
    warnOfMisuse(this.#reporter, message);
  }
}

/** Detects a limiter that a handler creates: Express's `Layer` is on the stack while a handler runs. */
export function checkCreation(reporter: Reporter, name: string): void {
  const { stack = '' } = new Error('only its stack is read');
  if (!/\bat Layer\.handle/.test(stack)) return;
  warnOfMisuse(
    reporter,
    `the limiter '${name}' was made while a request was handled; create it once at start-up, or every request gets a limiter of its own`,
  );
}

function warnOfMisuse(reporter: Reporter, message: string): void {
  if (reporter.warning(message)) reporter.events.emit('rate:misuse', { message });
}
