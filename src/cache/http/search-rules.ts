import { BoundedMap } from '../../base/bounded-map.ts';
import type { SearchRule } from './no-vary-search.ts';
import type { RequestKey } from './request-key.ts';

/** Beyond these the rules that were used least recently are forgotten: their responses are missed until the next one is made. */
const RULE_BYTES = 4 * 2 ** 20;
const EXCEPTION_BYTES = 2 ** 20;

/** What a rule costs, about: its text, its names and their set. */
const costOf = ({ id }: SearchRule) => id.length * 6;

/** Which part of the query counts, as the last stored response to each path declared it to this process. */
export class SearchRules {
  readonly #rules = new BoundedMap<SearchRule>(RULE_BYTES, costOf);
  /** The exact ids, on paths with a rule, whose last stored response declared none: error pages, for example. */
  readonly #exceptions = new BoundedMap<true>(EXCEPTION_BYTES);

  /** The key of the same request by the rule that is known of its path. */
  keyUnder(key: RequestKey): RequestKey {
    // Most apps declare nothing, and then no request looks anything up.
    if (this.#rules.size === 0 || !key.takesRules) return key;
    const rule = this.#rules.get(key.pathId);
    return key.under(rule === undefined || this.#isException(key) ? undefined : rule);
  }

  learn(key: RequestKey, rule: SearchRule | undefined): void {
    if (!key.takesRules || (rule === undefined && this.#rules.size === 0)) return;
    if (rule !== undefined) {
      this.#rules.set(key.pathId, rule);
      if (this.#exceptions.size > 0) this.#exceptions.delete(key.exactId);
    } else if (this.#rules.peek(key.pathId) !== undefined) this.#exceptions.set(key.exactId, true);
  }

  #isException(key: RequestKey): boolean {
    return this.#exceptions.size > 0 && this.#exceptions.get(key.exactId) === true;
  }
}
