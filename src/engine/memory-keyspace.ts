import { LRUCache } from 'lru-cache';
import type { Clock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { type KeyPattern, type Room, roomOf } from '../base/keys.ts';
import type { Keyspace } from '../operations/operation.ts';
import type { ChannelListener, Listening } from './listening.ts';

export interface RoomLimits {
  readonly maxEntries: number;
  readonly maxBytes: number;
  /** What a full room does: forgets what was used least recently, or refuses to take more. */
  readonly whenFull: 'evict' | 'refuse';
}

interface Entry {
  readonly value: Buffer;
  readonly expiresAt: number;
}

const MEBIBYTE = 2 ** 20;

/** A forgotten response or counter costs little; a forgotten session, lock or record of a request breaks a promise. */
const ROOM_LIMITS: Readonly<Record<Room, RoomLimits>> = {
  rate: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  cache: { maxEntries: 10_000, maxBytes: 64 * MEBIBYTE, whenFull: 'evict' },
  session: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  // A lock has a counter beside it.
  lock: { maxEntries: 200_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
  concurrency: { maxEntries: 100_000, maxBytes: 16 * MEBIBYTE, whenFull: 'refuse' },
  idempotency: { maxEntries: 100_000, maxBytes: 64 * MEBIBYTE, whenFull: 'refuse' },
};

/** What an entry costs besides its key and value: Map, list and TTL bookkeeping, roughly. */
const OVERHEAD_BYTES = 100;

/** How often a full room may be swept of what has expired: a sweep visits every entry. */
const SWEEP_EVERY_MS = 1_000;

/** The strings of `memory:`, each room within its own limits, so that a busy cache cannot push out a session. */
export class MemoryKeyspace implements Keyspace, Listening {
  readonly #channels = new Map<string, Set<ChannelListener>>();
  readonly #clock: Clock;
  readonly #limits: Readonly<Record<Room, RoomLimits>>;
  readonly #rooms = new Map<Room, LRUCache<string, Entry>>();
  readonly #sweptAt = new Map<Room, number>();

  constructor(clock: Clock, limits: Readonly<Record<Room, RoomLimits>> = ROOM_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get(key: string): Buffer | undefined {
    return this.#live(key)?.value;
  }

  set(key: string, value: Buffer, ttlMs: number): void {
    const room = roomOf(key);
    if (this.#limits[room].whenFull === 'refuse') this.#makeRoom(room, key, value);
    this.#room(room).set(key, { value, expiresAt: this.#clock.now() + ttlMs });
  }

  rewrite(key: string, value: Buffer): void {
    const entry = this.#live(key);
    if (entry !== undefined) this.#room(roomOf(key)).set(key, { value, expiresAt: entry.expiresAt });
  }

  delete(key: string): boolean {
    const there = this.#live(key) !== undefined;
    this.#room(roomOf(key)).delete(key);
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
    const room = this.#room(roomOf(key));
    const entry = room.get(key);
    if (entry === undefined || entry.expiresAt > this.#clock.now()) return entry;
    room.delete(key);
    return undefined;
  }

  #room(room: Room): LRUCache<string, Entry> {
    let entries = this.#rooms.get(room);
    if (entries === undefined) {
      const { maxEntries, maxBytes } = this.#limits[room];
      entries = new LRUCache({ max: maxEntries, maxSize: maxBytes, sizeCalculation: sizeOf });
      this.#rooms.set(room, entries);
    }
    return entries;
  }

  #makeRoom(room: Room, key: string, value: Buffer): void {
    const entries = this.#room(room);
    const { maxEntries, maxBytes } = this.#limits[room];
    const old = entries.peek(key);
    const fits = () =>
      (old !== undefined || entries.size < maxEntries) &&
      entries.calculatedSize +
        sizeOf({ value, expiresAt: 0 }, key) -
        (old === undefined ? 0 : sizeOf(old, key)) <=
        maxBytes;
    if (fits()) return;
    this.#sweep(room, entries);
    if (fits()) return;
    throw new StoreError(
      'ERR_REDIS_KIT_FULL',
      `memory: the ${room} room is full (${entries.size} entries, ${entries.calculatedSize} bytes); use Redis for this much`,
    );
  }

  #sweep(room: Room, entries: LRUCache<string, Entry>): void {
    const now = this.#clock.now();
    if (now - (this.#sweptAt.get(room) ?? -SWEEP_EVERY_MS) < SWEEP_EVERY_MS) return;
    this.#sweptAt.set(room, now);
    for (const [key, entry] of entries.entries()) {
      if (entry.expiresAt <= now) entries.delete(key);
    }
  }
}

function sizeOf({ value }: Entry, key: string): number {
  return value.length + key.length * 2 + OVERHEAD_BYTES;
}
