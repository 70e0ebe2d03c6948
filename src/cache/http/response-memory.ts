import { BoundedMap } from '../../base/bounded-map.ts';
import type { SearchRule } from './no-vary-search.ts';
import type { RequestKey } from './request-key.ts';

/** For keys beyond this limit, the first read of a response that varies costs one more command. */
const VARY_BYTES = 4 * 2 ** 20;

/** Rules beyond this limit are forgotten, and their responses are missed until the next one is stored. */
const RULE_BYTES = 4 * 2 ** 20;
const EXCEPTION_BYTES = 2 ** 20;

/** The measured cost of a rule: its text, its names and their set. */
const ruleBytes = ({ id }: SearchRule) => id.length * 6;

/**
 * The headers on which the responses of each key vary, as far as this process knows. For an unknown key the last ones are a
 * guess.
 */
export class VaryMemory {
  readonly #names = new BoundedMap<string>(VARY_BYTES, (names) => names.length * 2);
  #last = '';

  of(id: string): string {
    // Most apps never vary, and then no request costs a lookup.
    return this.#last === '' && this.#names.size === 0 ? '' : (this.#names.get(id) ?? this.#last);
  }

  /** Whether this process has seen variants of the key. */
  isKnownToVary(id: string): boolean {
    return (this.#names.peek(id) ?? '') !== '';
  }

  learn(id: string, names: string): void {
    if (names !== '' || this.#names.size > 0) this.#names.set(id, names);
    this.#last = names;
  }
}

/** The rule of No-Vary-Search that the last stored response of each path declared to this process. */
export class SearchRules {
  readonly #rules = new BoundedMap<SearchRule>(RULE_BYTES, ruleBytes);
  /** The exact ids, on paths with a rule, whose last stored response declared none: error pages, for example. */
  readonly #exceptions = new BoundedMap<true>(EXCEPTION_BYTES);

  /** The key of a request under the known rule of its path. */
  keyUnder(key: RequestKey): RequestKey {
    // Most apps declare no rule, and then no request costs a lookup.
    if (this.#rules.size === 0 || !key.acceptsRules) return key;
    const rule = this.#rules.get(key.pathId);
    return key.under(rule === undefined || this.#isException(key) ? undefined : rule);
  }

  learn(key: RequestKey, rule: SearchRule | undefined): void {
    if (!key.acceptsRules || (rule === undefined && this.#rules.size === 0)) return;
    if (rule !== undefined) {
      this.#rules.set(key.pathId, rule);
      if (this.#exceptions.size > 0) this.#exceptions.delete(key.exactId);
    } else if (this.#rules.peek(key.pathId) !== undefined) this.#exceptions.set(key.exactId, true);
  }

  #isException(key: RequestKey): boolean {
    return this.#exceptions.size > 0 && this.#exceptions.get(key.exactId) === true;
  }
}

/** What one `kit.cache` knows of the responses of each key. */
export class ResponseMemory {
  readonly vary: VaryMemory = new VaryMemory();
  readonly rules: SearchRules = new SearchRules();
}
