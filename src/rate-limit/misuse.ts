import type { IncomingMessage } from 'node:http';
import type { Reporter } from '../base/reporter.ts';
import { proxyTrust } from '../http/client-address.ts';

/** The watch of one limiter for mistakes that work on a laptop and fail in production. Each is told once, in plain words, and changes nothing. */
export class MisuseWatch {
  readonly #reporter: Reporter;
  readonly #name: string;
  /** The requests that have passed this limiter. */
  readonly #passed = new WeakSet<IncomingMessage>();

  constructor(reporter: Reporter, name: string) {
    this.#reporter = reporter;
    this.#name = name;
  }

  checkAddress(req: IncomingMessage): void {
    if (req.headers['x-forwarded-for'] === undefined) return;
    const trust = proxyTrust(req);
    if (trust === 'all') {
      this.tell(
        `Express's 'trust proxy' is true, so a client can write any address into X-Forwarded-For and pass every limit; set it to the number or the addresses of your proxies`,
      );
    } else if (trust === 'none') {
      this.tell(
        `X-Forwarded-For arrives, but 'trust proxy' is not set, so all clients behind the proxy share its address and one limit; set it to the number or the addresses of your proxies, or give the option \`key\``,
      );
    }
  }

  checkTwice(req: IncomingMessage): void {
    if (this.#passed.has(req))
      this.tell(`the limiter '${this.#name}' counts the same request twice; mount it once`);
    this.#passed.add(req);
  }

  tell(message: string): void {
    tellMisuse(this.#reporter, message);
  }
}

/** Express runs handlers from its layers, so one of them stands on the stack of whoever is called by a handler. */
export function checkCreation(reporter: Reporter, name: string): void {
  const stack = new Error('where is this limiter made?').stack ?? '';
  if (!/\bat Layer\.handle/.test(stack)) return;
  tellMisuse(
    reporter,
    `the limiter '${name}' was made while a request was handled; make it once at start-up, or every request gets one of its own`,
  );
}

function tellMisuse(reporter: Reporter, message: string): void {
  if (reporter.warning(message)) reporter.events.emit('rate:misuse', { message });
}
