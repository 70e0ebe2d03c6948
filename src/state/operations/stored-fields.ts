import { bytesOfField, Hash } from '../../engine/hash.ts';
import type { Keyspace } from '../../engine/operation.ts';

/*
 * The state of one scope: a hash. The value of a field is its JSON. The name of a field is stored as `storedText`
 * returns it. The lifetime of the scope is the TTL of the key; a TTL of 0 ms means none.
 */

export interface LifetimeArgs {
  /** The TTL to set; null for none. */
  readonly ttl: number | null;
}

/** The TTL as an argument of a script. */
export function ttlArgument({ ttl }: LifetimeArgs): string {
  return String(ttl ?? 0);
}

/**
 * Defines `size`, the number of fields, `found`, and `keep(ttl)`, which sets or removes the TTL. A value of another type
 * is deleted. KEYS[1] is the scope.
 */
export const WRITE_FIELDS_LUA: string = /* lua */ `
local KEY, found = KEYS[1], 0
local size = read('HLEN', KEY)
if type(size) == 'table' then
  found, size = 1, 0
  redis.call('DEL', KEY)
end
local function keep(ttl)
  if ttl == '0' then redis.call('PERSIST', KEY) else redis.call('PEXPIRE', KEY, ttl) end
end
`;

/** The fields in the in-memory implementations. */
export class StoredFields {
  /** Whether the key holds a value of another type. */
  readonly isCorrupt: boolean;
  readonly hash: Readonly<Hash> | undefined;
  readonly #memory: Keyspace;
  readonly #key: string;

  constructor(memory: Keyspace, key: string) {
    this.hash = memory.collection(key, Hash);
    this.isCorrupt = this.hash === undefined && memory.get(key) !== undefined;
    this.#memory = memory;
    this.#key = key;
  }

  get size(): number {
    return this.hash?.size ?? 0;
  }

  has(field: string): boolean {
    return this.hash?.has(field) ?? false;
  }

  set(values: readonly (readonly [field: string, json: string])[], { ttl }: LifetimeArgs): void {
    const bytes = values.map(([field, json]) => [field, Buffer.from(json)] as const);
    let growth = 0;
    for (const [field, value] of bytes) {
      growth += bytesOfField(field, value.length) - (this.hash?.bytesOf(field) ?? 0);
    }
    this.#memory.change(this.#key, Hash, {
      growth,
      ttlMs: ttl ?? Number.POSITIVE_INFINITY,
      apply: (hash) => {
        for (const [field, value] of bytes) hash.set(field, value);
      },
    });
  }

  /** Removes fields and returns how many existed. */
  delete(fields: readonly string[], { ttl }: LifetimeArgs): number {
    if (this.isCorrupt) this.#memory.delete(this.#key);
    if (this.hash === undefined) return 0;
    return this.#memory.change(this.#key, Hash, {
      growth: 0,
      ttlMs: ttl ?? Number.POSITIVE_INFINITY,
      apply: (hash) => fields.filter((field) => hash.delete(field)).length,
    });
  }

  /** Sets the TTL of a scope that exists. */
  touch(ttlMs: number): void {
    if (this.hash === undefined) return;
    this.#memory.change(this.#key, Hash, { growth: 0, ttlMs, apply: () => undefined });
  }
}
