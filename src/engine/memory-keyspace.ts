import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { type Feature, featureOf, isFenceCounter, type KeyPattern } from '../base/keys.ts';
import type { Collection } from './collection.ts';
import { MemoryChannels } from './memory-channels.ts';
import type { CollectionEdit, Keyspace } from './operation.ts';
import type { ChannelListener, ChannelPattern, PubSub } from './pub-sub.ts';
import { bytesOf, type SortedEntry, SortedSet } from './sorted-set.ts';

export interface PartitionLimits {
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** `evict`: drops the least recently used entries. `refuse`: rejects the write. */
  readonly whenFull: 'evict' | 'refuse';
}

interface Entry {
  readonly value: StoredValue;
  readonly expiresAt: number;
}

/**
 * Short values are Latin-1 strings, which take one byte per character: a Buffer with its own memory costs about 350
 * bytes besides its content, several times what a counter needs.
 */
type StoredValue = string | Buffer | Collection;

/** Values of this size and above are Buffers: each read converts a string, in 0.2 microseconds for 100 bytes. */
const BUFFER_FROM_BYTES = 4_096;

const MEBIBYTE = 2 ** 20;

/** Data with its own limits. Fence counters are separate: they outlive locks, and would leave no space for new ones. */
type Partition = Feature | 'fence';

/** Responses and counters are evicted. Losing a session, a lock or an idempotency record would break a guarantee. */
const LIMITS: Readonly<Record<Partition, PartitionLimits>> = {
  rate: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  cache: { maxEntries: 10_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  session: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  // A lock may have a queue, which is another entry.
  lock: { maxEntries: 200_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  // A dropped counter matters only if the clock goes back, since the next fence is at least the time of day.
  fence: { maxEntries: 100_000, maxBytes: 32 * MEBIBYTE, whenFull: 'evict' },
  concurrency: { maxEntries: 100_000, maxBytes: 16 * MEBIBYTE, whenFull: 'refuse' },
  idempotency: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  state: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  document: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  members: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  log: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
};

/**
 * An entry that no operation deletes. When an LRUCache loses its last entry, it clears tables of its largest size so
 * far, which takes milliseconds; without this entry, each release of a single lock would cost that.
 */
const PERMANENT: Entry = { value: '', expiresAt: Number.POSITIVE_INFINITY };

/** Bytes of an entry besides key and value, measured on Node 20: object headers, the entry, the Map, the LRU list. */
const ENTRY_BYTES = 220;

/** Bytes that a Buffer takes besides its content: two objects, the allocation, and V8's bookkeeping. */
const BUFFER_BYTES = 350;

/** The shortest time between two sweeps for expired entries in a full partition: a sweep visits every entry. */
const SWEEP_EVERY_MS = 1_000;

/** The data of `memory:` and the in-process fallback. Limits per feature keep a busy cache from evicting sessions. */
export class MemoryKeyspace implements Keyspace, PubSub {
  readonly #channels = new MemoryChannels();
  readonly #clock: Clock;
  readonly #limits: Readonly<Record<Partition, PartitionLimits>>;
  readonly #partitions = new Map<Partition, LRUCache<string, Entry>>();
  readonly #sweptAt = new Map<Partition, number>();

  constructor(clock: Clock, limits: Readonly<Partial<Record<Partition, PartitionLimits>>> = {}) {
    this.#clock = clock;
    this.#limits = { ...LIMITS, ...limits };
  }

  get(key: string): Buffer | undefined {
    const value = this.#live(key)?.value;
    if (value === undefined || Buffer.isBuffer(value)) return value;
    return typeof value === 'string' ? Buffer.from(value, 'latin1') : value.pack();
  }

  collection<Type extends Collection>(key: string, type: new () => Type): Type | undefined {
    const value = this.#live(key)?.value;
    return value instanceof type ? value : undefined;
  }

  change<Type extends Collection, Result>(
    key: string,
    type: new () => Type,
    { growth, ttlMs, apply }: CollectionEdit<Type, Result>,
  ): Result {
    const partition = partitionOf(key);
    const old = this.#live(key);
    const value = old?.value instanceof type ? old.value : new type();
    const keptExpiry = old?.value === value ? old.expiresAt : Number.POSITIVE_INFINITY;
    const entry = { value, expiresAt: ttlMs === undefined ? keptExpiry : this.#clock.now() + ttlMs };
    if (growth > 0) this.#ensureSpace(partition, key, sizeOf(entry, key) + growth);
    const result = apply(value);
    // The entry is set again, since its size has changed.
    if (value.isEmpty) this.#partition(partition).delete(key);
    else this.#put(partition, key, entry);
    return result;
  }

  sortedSet(key: string): SortedSet | undefined {
    return this.collection(key, SortedSet);
  }

  addSorted(key: string, [score, member]: SortedEntry, ttlMs: number): void {
    const growth = this.sortedSet(key)?.has(member) === true ? 0 : bytesOf(member);
    this.change(key, SortedSet, { growth, ttlMs, apply: (set) => set.add(score, member) });
  }

  removeSorted(key: string, member: string): boolean {
    if (this.sortedSet(key)?.has(member) !== true) return false;
    return this.change(key, SortedSet, { growth: 0, apply: (set) => set.delete(member) });
  }

  set(key: string, value: Buffer, ttlMs: number): void {
    const partition = partitionOf(key);
    const entry = { value: ownBytesOf(value), expiresAt: this.#clock.now() + ttlMs };
    this.#ensureSpace(partition, key, sizeOf(entry, key));
    this.#put(partition, key, entry);
  }

  rewrite(key: string, value: Buffer): void {
    const entry = this.#live(key);
    if (entry === undefined) return;
    this.#partition(partitionOf(key)).set(key, { value: ownBytesOf(value), expiresAt: entry.expiresAt });
  }

  delete(key: string): boolean {
    const existed = this.#live(key) !== undefined;
    this.#partition(partitionOf(key)).delete(key);
    return existed;
  }

  matching({ feature, start, end }: KeyPattern): string[] {
    const keys = [...this.#partition(feature).keys()];
    return keys.filter((key) => key.startsWith(start) && key.endsWith(end) && this.#live(key) !== undefined);
  }

  ttl(key: string): number | undefined {
    const entry = this.#live(key);
    return entry === undefined ? undefined : entry.expiresAt - this.#clock.now();
  }

  publish(channel: string, message: string): void {
    this.#channels.publish(channel, message);
  }

  subscribe(channel: string | ChannelPattern, listener: ChannelListener): () => void {
    return this.#channels.subscribe(channel, listener);
  }

  #live(key: string): Entry | undefined {
    const entries = this.#partition(partitionOf(key));
    const entry = entries.get(key);
    if (entry === undefined || entry.expiresAt > this.#clock.now()) return entry;
    entries.delete(key);
    return undefined;
  }

  #partition(partition: Partition): LRUCache<string, Entry> {
    let entries = this.#partitions.get(partition);
    if (entries === undefined) {
      // With `max`, an LRUCache would allocate tables for all entries in advance.
      entries = new LRUCache({ maxSize: this.#limits[partition].maxBytes, sizeCalculation: sizeOf });
      entries.set('', PERMANENT);
      this.#partitions.set(partition, entries);
    }
    return entries;
  }

  #put(partition: Partition, key: string, entry: Entry): void {
    const entries = this.#partition(partition).set(key, entry);
    if (entries.size > this.#limits[partition].maxEntries + 1) entries.pop();
  }

  /** Throws if the partition has no space for the entry and refuses writes when it is full. */
  #ensureSpace(partition: Partition, key: string, bytes: number): void {
    const { maxEntries, maxBytes, whenFull } = this.#limits[partition];
    if (whenFull === 'evict') return;
    const entries = this.#partition(partition);
    const fits = () => {
      const old = entries.peek(key);
      const growth = bytes - (old === undefined ? 0 : sizeOf(old, key));
      return (old !== undefined || entries.size <= maxEntries) && entries.calculatedSize + growth <= maxBytes;
    };
    if (fits()) return;
    this.#sweep(partition, entries);
    if (fits()) return;
    throw new StoreError(
      'ERR_REDIS_KIT_FULL',
      `memory: the space for ${partition} entries is full (${entries.size - 1} entries, ${entries.calculatedSize} bytes); use Redis for this amount of data`,
    );
  }

  #sweep(partition: Partition, entries: LRUCache<string, Entry>): void {
    const now = this.#clock.now();
    if (now - (this.#sweptAt.get(partition) ?? -SWEEP_EVERY_MS) < SWEEP_EVERY_MS) return;
    this.#sweptAt.set(partition, now);
    for (const [key, entry] of entries.entries()) {
      if (entry.expiresAt <= now) entries.delete(key);
    }
  }
}

function partitionOf(key: string): Partition {
  const feature = featureOf(key);
  return feature === 'lock' && isFenceCounter(key) ? 'fence' : feature;
}

/** The size of an entry. A key takes two bytes per character, as V8 stores text that is not Latin-1. */
function sizeOf({ value }: Entry, key: string): number {
  return bytesOfValue(value) + key.length * 2 + ENTRY_BYTES;
}

function bytesOfValue(value: StoredValue): number {
  if (typeof value === 'string') return value.length;
  return Buffer.isBuffer(value) ? value.length + BUFFER_BYTES : value.byteLength;
}

/** Copies a Buffer that is a view: a view keeps all its memory alive, such as Node's 8 kB pool or a request body. */
function ownBytesOf(value: Buffer): StoredValue {
  if (value.length < BUFFER_FROM_BYTES) return value.toString('latin1');
  if (value.length === value.buffer.byteLength) return value;
  const copy = Buffer.allocUnsafeSlow(value.length);
  value.copy(copy);
  return copy;
}
