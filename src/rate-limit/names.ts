import { BoundedMap } from '../base/bounded-map.ts';
import { ConfigError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkCreation } from './misuse.ts';

/** Namespaces come with tenants, so the oldest of very many names are forgotten: only this diagnosis is lost with them. */
const NAMES_BYTES = 4 * 2 ** 20;

/** The names of all limiters of a kit and of its namespaces. */
export class LimiterNames {
  readonly #taken = new BoundedMap<true>(NAMES_BYTES);
  readonly #reporter: Reporter;

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
  }

  /** Throws where one of them is taken in the namespace with this prefix, and takes none then. */
  claim(prefix: string, names: readonly string[]): void {
    checkCreation(this.#reporter, names.join());
    const keyOf = (name: string) => `${prefix} ${name}`;
    const taken = names.find(
      (name, index) => this.#taken.get(keyOf(name)) === true || names.indexOf(name) < index,
    );
    if (taken !== undefined) {
      throw new ConfigError(
        `a limiter named '${taken}' exists already in this kit, and both would count into the same keys; give one of them another \`name\`, and make limiters at start-up and not while a request is handled`,
      );
    }
    for (const name of names) this.#taken.set(keyOf(name), true);
  }
}
