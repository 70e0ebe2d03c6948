import { describe } from '../base/describe.ts';
import { asError, ConfigError, RedisKitError } from '../base/errors.ts';
import type { FailurePolicies } from '../base/failure-policies.ts';
import { type Json, jsonOf, parseJson } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkBytes } from '../base/size-options.ts';
import { storedText, textOfStored } from '../base/utf8.ts';
import type { Engine } from '../engine/port.ts';
import { corruptValue, type StoredFormat } from '../engine/reply.ts';
import { type StateIncrementReply, stateIncrement } from './operations/increment.ts';
import { stateAll, stateGet } from './operations/read.ts';
import { stateDelete, stateSet } from './operations/write.ts';
import type { StateLimits } from './options.ts';

/** A value that JSON can represent; `undefined` is not one. */
type Storable = NonNullable<unknown> | null;

/**
 * The state of the app, of one user or of one session: named fields with JSON values. Each call is one command, and a
 * write restarts the lifetime in the same step. A call rejects while Redis is unavailable. A write rejects with a
 * ConfigError for a value that is no JSON, and with `ERR_REDIS_KIT_TOO_LARGE` above `maxBytes` or `maxFields`.
 */
export interface StateScope {
  /** Resolves to the value of a field, or to undefined. */
  get<T = Json>(field: string): Promise<T | undefined>;
  /** Sets a field. */
  set(field: string, value: Storable): Promise<void>;
  /** Sets several fields in one step, and leaves the others as they are. */
  patch(values: Readonly<Record<string, Storable>>): Promise<void>;
  /**
   * Adds an integer (default 1) to a field, and resolves to the sum. An absent field counts as 0. Rejects with
   * `ERR_REDIS_KIT_NO_INTEGER` if the field has another value than a safe integer, or if the sum is none.
   */
  increment(field: string, by?: number): Promise<number>;
  /** Deletes fields, and resolves to the number of those that existed. */
  delete(...fields: readonly string[]): Promise<number>;
  /** Resolves to all fields. */
  all(): Promise<Record<string, Json>>;
  /** Deletes all fields. */
  clear(): Promise<void>;
}

export interface StateDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly failurePolicies: FailurePolicies;
}

/** A bound, since an app may let clients choose the names of fields. */
const MAX_FIELD_BYTES = 1_024;

/** The lifetime and the limits of a scope. */
interface ScopeTerms extends StateLimits {
  readonly ttl: number | null;
  /** Called when a method is called that may create the scope. */
  readonly onCreate?: (() => void) | undefined;
}

export class StoredScope implements StateScope {
  readonly #key: string;
  readonly #terms: ScopeTerms;
  readonly #deps: StateDeps;

  constructor(key: string, terms: ScopeTerms, deps: StateDeps) {
    this.#key = key;
    this.#terms = terms;
    this.#deps = deps;
  }

  async get<T = Json>(field: string): Promise<T | undefined> {
    const args = { touch: this.#touch, field: fieldOf('get', field) };
    const { found, json } = await this.#deps.engine.run(stateGet, [this.#key], args);
    this.#check(found);
    return json === null ? undefined : (this.#valueOf(field, json) as T | undefined);
  }

  async set(field: string, value: Storable): Promise<void> {
    await this.#write([this.#entryOf('set', field, value)]);
  }

  async patch(values: Readonly<Record<string, Storable>>): Promise<void> {
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      throw new ConfigError(
        `state.patch: the values are ${describe(values)}; they must be an object of fields`,
      );
    }
    const entries = Object.entries(values).map(([field, value]) => this.#entryOf('patch', field, value));
    if (entries.length > 0) await this.#write(entries);
  }

  async increment(field: string, by = 1): Promise<number> {
    if (!Number.isSafeInteger(by)) {
      throw new ConfigError(
        `state.increment: the number to add is ${describe(by)}; it must be a safe integer`,
      );
    }
    const args = { ...this.#lifetime, field: fieldOf('increment', field), by };
    this.#terms.onCreate?.();
    const reply = await this.#deps.engine.run(stateIncrement, [this.#key], args);
    this.#check(reply.found);
    if (reply.outcome !== 'written') throw this.#refusalOf(reply, field);
    return reply.value;
  }

  async delete(...fields: readonly string[]): Promise<number> {
    const stored = fields.map((field) => fieldOf('delete', field));
    if (stored.length === 0) return 0;
    const args = { ...this.#lifetime, fields: stored };
    const { found, count } = await this.#deps.engine.run(stateDelete, [this.#key], args);
    this.#check(found);
    return count;
  }

  async all(): Promise<Record<string, Json>> {
    const reply = await this.#deps.engine.run(stateAll, [this.#key], { touch: this.#touch });
    this.#check(reply.found);
    const entries: [string, Json][] = [];
    for (const [stored, json] of reply.entries) {
      const field = textOfStored(stored);
      const value = this.#valueOf(stored, field === undefined ? '' : json);
      if (field !== undefined && value !== undefined) entries.push([field, value]);
    }
    // Unlike an assignment, this creates a property of its own for the name `__proto__`.
    return Object.fromEntries(entries);
  }

  async clear(): Promise<void> {
    await this.#deps.engine.delete([this.#key]);
  }

  /** The TTL that a read sets; 0 leaves the TTL as it is. */
  get #touch(): number {
    return this.#terms.touch === 'read' ? (this.#terms.ttl ?? 0) : 0;
  }

  get #lifetime(): { readonly ttl: number | null; readonly maxFields: number } {
    return { ttl: this.#terms.ttl, maxFields: this.#terms.maxFields };
  }

  #entryOf(method: string, field: string, value: unknown): readonly [field: string, json: string] {
    const stored = fieldOf(method, field);
    const what = `state.${method}: the value of ${describe(field)}`;
    const json = jsonOf(what, value);
    checkBytes(what, json, this.#terms.maxBytes, 'store less, or raise `maxBytes` of kit.state');
    return [stored, json];
  }

  async #write(values: readonly (readonly [field: string, json: string])[]): Promise<void> {
    this.#terms.onCreate?.();
    const { found, isWritten } = await this.#deps.engine.run(stateSet, [this.#key], {
      ...this.#lifetime,
      values,
    });
    this.#check(found);
    if (!isWritten) throw this.#tooManyFields();
  }

  #valueOf(field: string, json: string): Json | undefined {
    const value = parseJson(json);
    if (value === undefined) this.#corrupt(`the field ${describe(field)} under ${this.#key}`);
    return value;
  }

  #check(found: StoredFormat): void {
    if (found !== 'fine') this.#corrupt(`the value under ${this.#key}`);
  }

  #corrupt(what: string): void {
    this.#deps.reporter.failure('state', asError(corruptValue(what)));
  }

  #refusalOf({ outcome }: StateIncrementReply, field: string): RedisKitError {
    if (outcome === 'too-many') return this.#tooManyFields();
    const reason =
      outcome === 'unsafe'
        ? 'the sum would exceed the safe integers'
        : 'the field has a value that is no safe integer';
    return new RedisKitError(
      'ERR_REDIS_KIT_NO_INTEGER',
      `state.increment: ${describe(field)} was not changed: ${reason}`,
    );
  }

  #tooManyFields(): RedisKitError {
    const message = `state: more than ${this.#terms.maxFields} fields are not allowed, and nothing was written; delete fields, or raise \`maxFields\` of kit.state`;
    return new RedisKitError('ERR_REDIS_KIT_TOO_LARGE', message);
  }
}

/** The stored form of the name of a field. */
function fieldOf(method: string, field: unknown): string {
  if (typeof field !== 'string') {
    throw new ConfigError(`state.${method}: the field is ${describe(field)}; it must be a string`);
  }
  const stored = storedText(field);
  checkBytes(`state.${method}: the name of a field`, stored, MAX_FIELD_BYTES, 'use a shorter name');
  return stored;
}
