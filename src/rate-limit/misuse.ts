import type { IncomingMessage } from 'node:http';
import { BoundedMap } from '../base/bounded-map.ts';
import { ConfigError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import { proxyTrust } from '../http/client-address.ts';

const WATCHES: unique symbol = Symbol('the watches of the limiters that have counted the request');

interface CountedRequest extends IncomingMessage {
  [WATCHES]?: MisuseWatch[];
}

/**
 * Detects mistakes in the use of one limiter that go unnoticed in development and fail in production. Each mistake is
 * logged and emitted once, and changes no decision.
 */
export class MisuseWatch {
  readonly #reporter: Reporter;
  readonly #name: string;

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

  checkCountedTwice(req: CountedRequest): void {
    const watches = req[WATCHES];
    if (watches === undefined) {
      req[WATCHES] = [this];
    } else if (watches.includes(this)) {
      this.warn(`the limiter '${this.#name}' counts the same request twice; mount it once`);
    } else {
      watches.push(this);
    }
  }

  warn(message: string): void {
    warnOfMisuse(this.#reporter, message);
  }
}

/** The most memory for claimed names: an app may create a namespace per tenant. Evicted names can be claimed again. */
const NAMES_BYTES = 4 * 2 ** 20;

/** The limiter names that a kit and its namespaces have in use. */
export class LimiterNames {
  readonly #claimed = new BoundedMap<true>(NAMES_BYTES);
  readonly #reporter: Reporter;

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
  }

  /** Claims names in the namespace with this prefix. Throws, and claims none, when a name is in use or given twice. */
  claim(prefix: string, names: readonly string[]): void {
    if (isInHandler()) {
      warnOfMisuse(
        this.#reporter,
        `the limiter '${names.join()}' was made while a request was handled; create it once at start-up, or every request gets a limiter of its own`,
      );
    }
    const keyOf = (name: string) => `${prefix} ${name}`;
    const taken = names.find(
      (name, index) => this.#claimed.get(keyOf(name)) === true || names.indexOf(name) < index,
    );
    if (taken !== undefined) {
      throw new ConfigError(
        `a limiter named '${taken}' exists already in this kit, and both would count in the same keys; give one of them another \`name\`, and create limiters at start-up and not while a request is handled`,
      );
    }
    for (const name of names) this.#claimed.set(keyOf(name), true);
  }
}

/** Whether the caller runs in a request handler of Express, whose `Layer` is then on the stack. */
function isInHandler(): boolean {
  return /\bat Layer\.handle/.test(new Error('only its stack is read').stack ?? '');
}

function warnOfMisuse(reporter: Reporter, message: string): void {
  if (reporter.warning(message)) reporter.events.emit('rate:misuse', { message });
}
