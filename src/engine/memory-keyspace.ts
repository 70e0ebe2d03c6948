import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { isFenceCounter, type KeyPattern, type Room, roomOf } from '../base/keys.ts';
import type { ChannelListener, Listening } from './listening.ts';
import type { Keyspace } from './operation.ts';
import { bytesOf, packSortedSet, type SortedEntry, SortedSet } from './sorted-set.ts';

export interface RoomLimits {
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** What a full room does: forgets what was used least recently, or refuses to take more. */
  readonly whenFull: 'evict' | 'refuse';
}

interface Entry {
  readonly value: HeldValue;
  readonly expiresAt: number;
}

/**
 * Short values are Latin-1 strings, of one byte per character: a Buffer with memory of its own costs V8 and the
 * allocator some 400 bytes besides its content, most of what a counter would take.
 */
type HeldValue = string | Buffer | SortedSet;

/** A string is converted on each read, which costs 0.2 microseconds for 100 bytes and more than it saves for large values. */
const BUFFER_FROM_BYTES = 4_096;

const MEBIBYTE = 2 ** 20;

/** What has limits of its own: a room, or the fence counters, which would fill the room of the locks with none held. */
type Compartment = Room | 'fence';

/** A forgotten response or counter costs little; a forgotten session, lock or record of a request breaks a promise. */
const LIMITS: Readonly<Record<Compartment, RoomLimits>> = {
  rate: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  cache: { maxEntries: 10_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  session: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  // A lock may have a queue beside it.
  lock: { maxEntries: 200_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  // A forgotten one costs nothing as long as the clock does not go back: the next fence is at least the time.
  fence: { maxEntries: 100_000, maxBytes: 32 * MEBIBYTE, whenFull: 'evict' },
  concurrency: { maxEntries: 100_000, maxBytes: 16 * MEBIBYTE, whenFull: 'refuse' },
  idempotency: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
};

/**
 * An entry of each room, under a key that no feature has: when its last entry is deleted, an LRUCache clears tables for
 * all that it ever held, which takes milliseconds. A lock that is taken and released alone would pay for it each time.
 */
const NEVER_LAST: Entry = { value: '', expiresAt: Number.POSITIVE_INFINITY };

/** What an entry costs besides the bytes of key and value: their headers, the entry, Map and LRU list (measured on Node 20). */
const ENTRY_BYTES = 220;

/** What a value costs in addition when it is a Buffer: its two objects, the allocation and what V8 keeps about it. */
const BUFFER_BYTES = 350;

/** How often a full room may be swept of what has expired: a sweep visits every entry. */
const SWEEP_EVERY_MS = 1_000;

/** The strings of `memory:`, each room within its own limits, so that a busy cache cannot push out a session. */
export class MemoryKeyspace implements Keyspace, Listening {
  readonly #channels = new Map<string, Set<ChannelListener>>();
  readonly #clock: Clock;
  readonly #limits: Readonly<Record<Compartment, RoomLimits>>;
  readonly #rooms = new Map<Compartment, LRUCache<string, Entry>>();
  readonly #sweptAt = new Map<Compartment, number>();

  constructor(clock: Clock, limits: Readonly<Record<Compartment, RoomLimits>> = LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get(key: string): Buffer | undefined {
    const value = this.#live(key)?.value;
    if (value instanceof SortedSet) return packSortedSet(value.entries());
    return typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  }

  sortedSet(key: string): SortedSet | undefined {
    const value = this.#live(key)?.value;
    return value instanceof SortedSet ? value : undefined;
  }

  addSorted(key: string, [score, member]: SortedEntry, ttlMs: number): void {
    const room = compartmentOf(key);
    const set = this.sortedSet(key) ?? new SortedSet();
    const entry = { value: set, expiresAt: this.#clock.now() + ttlMs };
    const growth = set.has(member) ? 0 : bytesOf(member);
    if (this.#limits[room].whenFull === 'refuse') this.#makeRoom(room, key, sizeOf(entry, key) + growth);
    set.add(score, member);
    this.#put(room, key, entry);
  }

  removeSorted(key: string, member: string): boolean {
    const entry = this.#live(key);
    if (!(entry?.value instanceof SortedSet) || !entry.value.delete(member)) return false;
    const entries = this.#room(compartmentOf(key));
    if (entry.value.size === 0) entries.delete(key);
    // Its size has changed.
    else entries.set(key, { ...entry });
    return true;
  }

  set(key: string, value: Buffer, ttlMs: number): void {
    const room = compartmentOf(key);
    const entry = { value: ownBytesOf(value), expiresAt: this.#clock.now() + ttlMs };
    if (this.#limits[room].whenFull === 'refuse') this.#makeRoom(room, key, sizeOf(entry, key));
    this.#put(room, key, entry);
  }

  rewrite(key: string, value: Buffer): void {
    const entry = this.#live(key);
    if (entry === undefined) return;
    this.#room(compartmentOf(key)).set(key, { value: ownBytesOf(value), expiresAt: entry.expiresAt });
  }

  delete(key: string): boolean {
    const there = this.#live(key) !== undefined;
    this.#room(compartmentOf(key)).delete(key);
    return there;
  }

  matching({ room, start, end }: KeyPattern): string[] {
    const keys = [...this.#room(room).keys()];
    return keys.filter((key) => key.startsWith(start) && key.endsWith(end) && this.#live(key) !== undefined);
  }

  /** Milliseconds until the key is collected, or undefined when it is not there. */
  ttl(key: string): number | undefined {
    const entry = this.#live(key);
    return entry === undefined ? undefined : entry.expiresAt - this.#clock.now();
  }

  publish(channel: string, message: string): void {
    // Later, as from a socket: an operation is not to be interrupted by what it tells.
    for (const listener of this.#channels.get(channel) ?? []) setImmediate(() => listener.heard(message));
  }

  subscribe(channel: string, listener: ChannelListener): () => void {
    const listeners = this.#channels.get(channel) ?? new Set();
    this.#channels.set(channel, listeners.add(listener));
    listener.changed(true);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#channels.delete(channel);
    };
  }

  #live(key: string): Entry | undefined {
    const room = this.#room(compartmentOf(key));
    const entry = room.get(key);
    if (entry === undefined || entry.expiresAt > this.#clock.now()) return entry;
    room.delete(key);
    return undefined;
  }

  #room(room: Compartment): LRUCache<string, Entry> {
    let entries = this.#rooms.get(room);
    if (entries === undefined) {
      // Without `max`, for which an LRUCache would allocate all its tables before the first entry.
      entries = new LRUCache({ maxSize: this.#limits[room].maxBytes, sizeCalculation: sizeOf });
      entries.set('', NEVER_LAST);
      this.#rooms.set(room, entries);
    }
    return entries;
  }

  #put(room: Compartment, key: string, entry: Entry): void {
    const entries = this.#room(room).set(key, entry);
    if (entries.size > this.#limits[room].maxEntries + 1) entries.pop();
  }

  #makeRoom(room: Compartment, key: string, bytes: number): void {
    const entries = this.#room(room);
    const { maxEntries, maxBytes } = this.#limits[room];
    const fits = () => {
      const old = entries.peek(key);
      const growth = bytes - (old === undefined ? 0 : sizeOf(old, key));
      return (old !== undefined || entries.size <= maxEntries) && entries.calculatedSize + growth <= maxBytes;
    };
    if (fits()) return;
    this.#sweep(room, entries);
    if (fits()) return;
    throw new StoreError(
      'ERR_REDIS_KIT_FULL',
      `memory: the ${room} room is full (${entries.size - 1} entries, ${entries.calculatedSize} bytes); use Redis for this much`,
    );
  }

  #sweep(room: Compartment, entries: LRUCache<string, Entry>): void {
    const now = this.#clock.now();
    if (now - (this.#sweptAt.get(room) ?? -SWEEP_EVERY_MS) < SWEEP_EVERY_MS) return;
    this.#sweptAt.set(room, now);
    for (const [key, entry] of entries.entries()) {
      if (entry.expiresAt <= now) entries.delete(key);
    }
  }
}

function compartmentOf(key: string): Compartment {
  return isFenceCounter(key) ? 'fence' : roomOf(key);
}

/**
 * The bytes that an entry holds. A key counts two bytes for each character, which V8 needs as soon as one is beyond
 * Latin-1.
 */
function sizeOf({ value }: Entry, key: string): number {
  return bytesOfValue(value) + key.length * 2 + ENTRY_BYTES;
}

function bytesOfValue(value: HeldValue): number {
  if (typeof value === 'string') return value.length;
  return value instanceof SortedSet ? value.byteLength : value.length + BUFFER_BYTES;
}

/** A Buffer that is a view of a larger one (one of Node's pools of 8 kB, a whole request body) would keep that alive. */
function ownBytesOf(value: Buffer): HeldValue {
  if (value.length < BUFFER_FROM_BYTES) return value.toString('latin1');
  if (value.length === value.buffer.byteLength) return value;
  const copy = Buffer.allocUnsafeSlow(value.length);
  value.copy(copy);
  return copy;
}
