import { createHash } from 'node:crypto';
import { describe } from './check.ts';
import { ConfigError } from './errors.ts';

/** The rooms that keep something in Redis; the second part of every key. */
export type Room = 'rate' | 'session' | 'cache' | 'lock' | 'idempotency' | 'concurrency';

/** All keys of a room that begin and end so; for administration only, since finding them means a SCAN. */
export interface KeyPattern {
  readonly room: Room;
  readonly start: string;
  readonly end: string;
}

/** Longer ids are replaced with their hash: keys are stored, sent and logged whole on every command. */
const MAX_ID_BYTES = 64;

/**
 * Spells the Redis keys of one kit: `<prefix>:<room>:{<id>}[:<part>]`. The braces are the Cluster hash tag, so
 * all keys of one id live on one node and one script may touch them together. Nothing else in the project spells
 * a key.
 */
export class Keys {
  readonly prefix: string;
  /**
   * What local names begin with, so that the namespaces of a kit may share one map: empty for the kit itself. No id begins
   * with `>`, and no name of a namespace contains a line break.
   */
  readonly scope: string;
  readonly #root: string;
  /** What the keys of all versions begin with, once it was needed. */
  #versions: string | undefined;

  constructor(prefix: string, root: string = prefix) {
    checkPrefix('createRedisKit: option `prefix`', prefix);
    this.prefix = prefix;
    this.#root = root;
    this.scope = prefix === root ? '' : `>${prefix.slice(root.length + 1)}\n`;
  }

  namespace(name: string): Keys {
    checkPrefix('kit.namespace: the name', name);
    return new Keys(`${this.prefix}:${name}`, this.#root);
  }

  rate(id: string, policy: string): string {
    return this.#key('rate', encodeId(id), policy);
  }

  /** What the keys of all policies of an identity begin with; no longer than they, whatever the id. */
  rateOwner(id: string): string {
    return this.#key('rate', encodeId(id));
  }

  /** What names the store of one policy; no key begins with it, since the policy is the end of a key. */
  rateStore(policy: string): string {
    return `${this.prefix}:${policy}:`;
  }

  /** The keys of one policy, whoever they count for. */
  ratePattern(policy: string): KeyPattern {
    return { room: 'rate', start: `${this.prefix}:rate:{`, end: `}:${policy}` };
  }

  /** Takes the session id, which is a secret, and shows only its hash. */
  session(id: string): string {
    return this.#key('session', hashId(id));
  }

  /** A session's public name: the part of its key that stands for its id. */
  sessionHandle(id: string): string {
    return hashId(id).slice(1);
  }

  /** Undefined when the handle is none. */
  sessionOfHandle(handle: unknown): string | undefined {
    const isHandle = typeof handle === 'string' && /^[\w-]{43}$/.test(handle);
    return isHandle ? this.#key('session', `*${handle}`) : undefined;
  }

  /** The handle of a session id, and the key. */
  sessionNames(id: string): { readonly handle: string; readonly key: string } {
    const hash = hashId(id);
    return { handle: hash.slice(1), key: this.#key('session', hash) };
  }

  /** How a session's record names its user. */
  sessionOwner(userId: string): string {
    return hashId(userId).slice(1);
  }

  /** The index of the sessions of an owner. */
  userSessions(owner: string): string {
    return this.#key('session', `*${owner}`, 'user');
  }

  /** All sessions, without the indexes. */
  sessionPattern(): KeyPattern {
    return { room: 'session', start: `${this.prefix}:session:{`, end: '}' };
  }

  /** The keys of a cached response; `isSecret` where the id holds what nobody else may see. */
  cache(id: string, isSecret = false): CacheKeys {
    return cacheKeys(this.#key('cache', isSecret ? hashId(id) : encodeId(id)));
  }

  /** The keys of a value that is remembered. */
  remembered(id: string): CacheKeys {
    return cacheKeys(this.#key('cache', encodeId(id), 'value'));
  }

  /** What entries are purged by, as it stands in keys and messages. */
  cacheName(kind: 'tag' | 'group' | 'url' | 'path' | 'key', id: string): string {
    return `${kind}:${encodeId(id)}`;
  }

  /** The version of a name. All versions, and the sequence, share a slot, so that one purge may name several. */
  cacheVersion(name: string): string {
    this.#versions ??= this.#key('cache', `${encodeId(this.prefix)}.v`);
    return `${this.#versions}:${name}`;
  }

  /** The entries of a policy that has a limit. */
  cachePolicy(name: string): string {
    return this.#key('cache', encodeId(name), 'policy');
  }

  /** Where purges and finished fills are published: one channel for a kit and its namespaces. */
  cacheChannel(): string {
    return this.#key('cache', `${encodeId(this.#root)}.v`, 'changes', this.#root);
  }

  /** The keys of a lock: itself, who waits for it, and the counter of its fences. */
  lock(id: string): LockKeys {
    const lock = this.#key('lock', encodeId(id));
    return { lock, line: `${lock}:line`, fence: `${lock}:fence` };
  }

  /** The keys of a concurrency limit: who has a slot, and who waits for one. */
  concurrency(id: string, name: string): ConcurrencyKeys {
    const slots = this.#key('concurrency', encodeId(id), encodeId(name));
    return { slots, line: `${slots}:line` };
  }

  /** What the channels begin with on which processes are called; the name of the process follows. */
  callChannels(): string {
    return `${this.prefix}:calls:`;
  }

  /** The record of one request. The scope may hold what nobody else may see, so only a hash is shown. */
  idempotency(scope: string, key: string): string {
    return this.#key('idempotency', hashId(JSON.stringify([scope, key])));
  }

  /** Where runs that are over are told. */
  idempotencyChannel(): string {
    return this.#key('idempotency', encodeId(this.prefix), 'ended');
  }

  #key(room: Room, id: string, part?: string, prefix: string = this.prefix): string {
    const base = `${prefix}:${room}:{${id}}`;
    return part === undefined ? base : `${base}:${part}`;
  }
}

/** What is kept for one id: an entry or the marker of its variants, the variants, and who makes it anew. */
export interface CacheKeys {
  readonly entry: string;
  readonly fill: string;
  variant(id: string): string;
}

export interface ConcurrencyKeys {
  readonly slots: string;
  readonly line: string;
}

export interface LockKeys {
  readonly lock: string;
  readonly line: string;
  readonly fence: string;
}

function cacheKeys(entry: string): CacheKeys {
  return { entry, fill: `${entry}:fill`, variant: (id) => `${entry}:${id}` };
}

function checkPrefix(what: string, prefix: unknown): void {
  if (typeof prefix === 'string' && /^[\w.:-]+$/.test(prefix)) return;
  throw new ConfigError(
    `${what} is ${describe(prefix)}; it must be a string of letters, digits, '.', '_', '-' and ':'`,
  );
}

/** The room that a key belongs to. Keys that another library spells are sessions. */
export function roomOf(key: string): Room {
  return (/:(rate|session|cache|lock|idempotency|concurrency):\{/.exec(key)?.[1] ?? 'session') as Room;
}

/** Whether it is the counter of a lock's fences, which outlives the lock. No id ends so, since none has a bare brace. */
export function isFenceCounter(key: string): boolean {
  return key.endsWith('}:fence');
}

/**
 * An id as it stands in a key. Percent-encoding keeps the characters out that would end the hash tag or act as a
 * glob; `%` is among them, so that no two ids meet. A hash begins with `*` and the empty id is `?`: both are
 * characters that encoding never leaves bare, so neither can equal an encoded id.
 */
export function encodeId(id: string): string {
  if (id === '') return '?';
  if (Buffer.byteLength(id) > MAX_ID_BYTES) return hashId(id);
  // A lone surrogate has no UTF-8; every one would become U+FFFD and so the same key.
  return id.replace(/[%:{}*?[\]\\\p{Cc}\p{Cs}]/gu, (character) => {
    const code = character.charCodeAt(0);
    return code > 0xff ? `%u${code.toString(16)}` : `%${code.toString(16).padStart(2, '0')}`;
  });
}

function hashId(id: string): string {
  // UTF-16 code units, since lone surrogates would all be hashed alike as UTF-8.
  return `*${createHash('sha256').update(Buffer.from(id, 'utf16le')).digest('base64url')}`;
}
