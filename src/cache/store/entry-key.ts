import type { CacheKeys } from '../../base/keys.ts';

/** The key of an entry: the names of the entry in Redis and in this process, and the unpacking of its content. */
export interface EntryKey<Content> {
  readonly redisKeys: CacheKeys;
  /** The key of the local copy and of the flight in this process. */
  localKey(): string;
  /** The invalidation names that every entry under this key has; the tags of an entry add to them. */
  readonly names: readonly string[];
  /** The names of the request headers that select a variant, as this process last learned them; empty for none. */
  variesOn(): string;
  learnVary(names: string): void;
  /** The id of the variant that the values of these request headers select. */
  variantOf(names: string): string;
  /** Returns undefined for unreadable content. */
  unpack(info: unknown, body: Buffer): Content | undefined;
  /** The other key under which a new response must be stored by its No-Vary-Search; undefined for this key. */
  declaredKey?(content: Content): DeclaredKey<Content> | undefined;
  /** Updates the key by the rules that this process has learned since. The caller must hold no lease and no flight of the key. */
  update?(): void;
}

/** A key other than the one under which the handler ran. */
export interface DeclaredKey<Content> {
  readonly key: EntryKey<Content>;
  /** Whether the content can answer every follower of the key under which the handler ran. */
  readonly servesFollowers: boolean;
}

/** The lease of a fill: other processes wait while it lasts. */
export interface FillLease {
  /** Identifies the holder of the lease; empty for no lease. */
  readonly token: string;
  readonly leaseMs: number;
}

export const NO_LEASE: FillLease = { token: '', leaseMs: 0 };
