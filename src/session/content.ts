import { jsonInLines } from './operations/lines.ts';
import type { Entries } from './seal.ts';

type JsonObject = Readonly<Record<string, unknown>>;

const OWN_PROPERTY = { configurable: true, enumerable: true, writable: true };

/**
 * The data of a session at one time, to which later data is compared. A value that cannot be changed in place is compared
 * by itself, which is several times cheaper than a comparison of its JSON.
 */
export class SessionContent {
  /** The values by their keys. Objects in it are shared with the session, so they may have been changed since. */
  readonly values: JsonObject;
  /** The stored text, in lines; undefined for data that was not loaded. */
  readonly #text: string | undefined;
  /** The JSON of the objects, unless it is in the stored text. */
  readonly #objects: ReadonlyMap<string, string> | undefined;

  private constructor(values: JsonObject, text?: string, objects?: ReadonlyMap<string, string>) {
    this.values = values;
    this.#text = text;
    this.#objects = objects;
  }

  /** `values`: the parsed `text`, which is in lines (see operations/lines.ts). */
  static ofText(values: JsonObject, text: string): SessionContent {
    return new SessionContent(values, text);
  }

  /** The data of an object, as JSON represents it, without the key `except`. Throws what JSON.stringify throws. */
  static of(object: object, except?: string): SessionContent {
    const values: Record<string, unknown> = {};
    const objects = new Map<string, string>();
    for (const name of Object.keys(object)) {
      const value = name === except ? undefined : (object as JsonObject)[name];
      if (!isPlain(value)) {
        const json: string | undefined = JSON.stringify(value);
        if (json === undefined) continue;
        objects.set(name, json);
      }
      // An assignment to `__proto__` would set the prototype.
      if (name === '__proto__') Object.defineProperty(values, name, { ...OWN_PROPERTY, value });
      else values[name] = value;
    }
    return new SessionContent(values, undefined, objects);
  }

  get isEmpty(): boolean {
    return Object.keys(this.values).length === 0;
  }

  /** The JSON of the value of a key; undefined for an absent key. */
  jsonOf(name: string): string | undefined {
    if (!Object.hasOwn(this.values, name)) return undefined;
    const value = this.values[name];
    if (isPlain(value)) return JSON.stringify(value);
    return this.#text === undefined ? this.#objects?.get(name) : jsonInLines(this.#text, name);
  }

  entries(): Entries {
    return new Map(Object.keys(this.values).map((name) => [name, this.jsonOf(name)]));
  }

  /** Whether a session has this data. Throws what JSON.stringify throws. */
  isOf(session: object): boolean {
    let left = Object.keys(this.values).length;
    for (const name of Object.keys(session)) {
      if (name === 'cookie') continue;
      const value = (session as JsonObject)[name];
      const json = this.#isSamePlain(name, value) ? '' : JSON.stringify(value);
      if (json === undefined) continue;
      if (json !== '' && json !== this.jsonOf(name)) return false;
      left--;
    }
    return left === 0;
  }

  /** The keys that `later` has added, changed or deleted, with their JSON; undefined for a deleted key. */
  changesTo(later: SessionContent): Entries {
    const changes = new Map<string, string | undefined>();
    for (const name of Object.keys(later.values)) {
      if (this.#isSamePlain(name, later.values[name])) continue;
      const json = later.jsonOf(name);
      if (json !== this.jsonOf(name)) changes.set(name, json);
    }
    for (const name of Object.keys(this.values)) {
      if (!Object.hasOwn(later.values, name)) changes.set(name, undefined);
    }
    return changes;
  }

  #isSamePlain(name: string, value: unknown): boolean {
    return isPlain(value) && value === this.values[name] && Object.hasOwn(this.values, name);
  }
}

/** Whether a value is its own copy, and JSON represents it as it is. */
function isPlain(value: unknown): boolean {
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return true;
  return typeof value === 'number' && Number.isFinite(value);
}
