import { BoundedMap } from '../base/bounded-map.ts';
import { ConfigError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkCreation } from './misuse.ts';

/** Apps may create a namespace per tenant, so the names are bounded. A name that is forgotten can be claimed twice. */
const NAMES_BYTES = 4 * 2 ** 20;

/** The limiter names that a kit and its namespaces have in use. */
export class LimiterNames {
  readonly #claimed = new BoundedMap<true>(NAMES_BYTES);
  readonly #reporter: Reporter;

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
  }

  /** Claims names in the namespace with this prefix. Throws, and claims none, when one of them is in use. */
  claim(prefix: string, names: readonly string[]): void {
    checkCreation(this.#reporter, names.join());
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
