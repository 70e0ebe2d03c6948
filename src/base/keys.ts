import { hash } from 'node:crypto';
import { describe } from './describe.ts';
import { ConfigError } from './errors.ts';

/** The features that store data in Redis; the second part of every key. */
export type Feature =
  | 'rate'
  | 'session'
  | 'cache'
  | 'lock'
  | 'idempotency'
  | 'concurrency'
  | 'state'
  | 'document'
  | 'members'
  | 'log';

/** The scopes of kit.state, each with keys of its own. */
export type StateScopeName = 'app' | 'user' | 'session';

/** Matches keys of a feature by their start and end. For administration only: finding the keys takes a SCAN. */
export interface KeyPattern {
  readonly feature: Feature;
  readonly start: string;
  readonly end: string;
}

/** A key that no feature uses, with the prefix of another key and in its Cluster slot. */
export function probeKey(key: string): string {
  return key.includes('{') ? `${key}:probe` : `${key}:probe{${key}}`;
}

/** An id with more bytes is hashed, since every command sends its keys in full. */
const MAX_ID_BYTES = 64;

/** An id that is encoded as itself: printable ASCII without the characters that `encodeId` encodes. */
const PLAIN_ID = /^[ -$&-)+-9;->@-Z^-z|~]+$/;

/**
 * The Redis keys of one kit: `<prefix>:<feature>:{<id>}[:<part>]`. The braces are the Cluster hash tag: all keys of one
 * id are on one node, so that one script can use them together. No other file spells a key.
 */
export class Keys {
  readonly prefix: string;
  /**
   * A prefix for names in the maps that the namespaces of a kit share in this process; empty for the kit itself. The
   * prefix is unambiguous: no id begins with `>`, and no namespace name contains a line break.
   */
  readonly scope: string;
  readonly #root: string;
  /** The prefix of all version keys, created on first use. */
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

  /** The key of the block of an identity by the limiter whose first policy has this name. */
  rateBlock(id: string, policy: string): string {
    return this.#key('rate', encodeId(id), `${policy}:block`);
  }

  /** The beginning of all keys of an identity, under any policy. */
  rateOwner(id: string): string {
    return this.#key('rate', encodeId(id));
  }

  /** A name for a policy's express-rate-limit store. It is no prefix of the store's keys, which end with the policy. */
  rateStore(policy: string): string {
    return `${this.prefix}:${policy}:`;
  }

  /** Matches the keys of all identities under one policy. */
  ratePattern(policy: string): KeyPattern {
    return { feature: 'rate', start: `${this.prefix}:rate:{`, end: `}:${policy}` };
  }

  /** The key of a session. It contains only a hash of the session id, which is a secret. */
  session(id: string): string {
    return this.#key('session', hashId(id));
  }

  /** The public handle of a session: the hash in its key. */
  sessionHandle(id: string): string {
    return hashId(id).slice(1);
  }

  /** The key of the session with this handle; undefined for a value that is no handle. */
  sessionOfHandle(handle: unknown): string | undefined {
    const isHandle = typeof handle === 'string' && /^[\w-]{43}$/.test(handle);
    return isHandle ? this.#key('session', `*${handle}`) : undefined;
  }

  /** The handle and the key of a session. The id is hashed only once. */
  sessionNames(id: string): { readonly handle: string; readonly key: string } {
    const hash = hashId(id);
    return { handle: hash.slice(1), key: this.#key('session', hash) };
  }

  /** The hash of a user's id, which session records and the user's index contain instead of the id. */
  sessionOwner(userId: string): string {
    return hashId(userId).slice(1);
  }

  /** The key of the index of one user's sessions. */
  userSessions(owner: string): string {
    return this.#key('session', `*${owner}`, 'user');
  }

  /** Matches the keys of all sessions, but not those of users' indexes. */
  sessionPattern(): KeyPattern {
    return { feature: 'session', start: `${this.prefix}:session:{`, end: '}' };
  }

  /** The keys of a stored response. `isSecret`: the id contains data of one client, so only its hash appears. */
  cache(id: string, isSecret = false): CacheKeys {
    return cacheKeys(this.#key('cache', isSecret ? hashId(id) : encodeId(id)));
  }

  /** The keys of a cached value of `kit.remember`. */
  remembered(id: string): CacheKeys {
    return cacheKeys(this.#key('cache', encodeId(id), 'value'));
  }

  /** A name by which cached entries are invalidated, as it appears in keys and messages. */
  cacheName(kind: 'tag' | 'group' | 'url' | 'path' | 'key', id: string): string {
    return `${kind}:${encodeId(id)}`;
  }

  /** The key of a name's version. Versions and the sequence share a slot: one script can invalidate several names. */
  cacheVersion(name: string): string {
    this.#versions ??= this.#key('cache', `${encodeId(this.prefix)}.v`);
    return `${this.#versions}:${name}`;
  }

  /** The key of the index of a cache policy with `maxEntries`. */
  cachePolicy(name: string): string {
    return this.#key('cache', encodeId(name), 'policy');
  }

  /** The channel that announces invalidations and finished fills, shared by a kit and its namespaces. */
  cacheChannel(): string {
    return this.#key('cache', `${encodeId(this.#root)}.v`, 'changes', this.#root);
  }

  /** The keys of a lock: its record, its queue, and its fence counter. */
  lock(id: string): LockKeys {
    const lock = this.#key('lock', encodeId(id));
    return { lock, line: `${lock}:line`, fence: `${lock}:fence` };
  }

  /** The keys of a concurrency limit: its slots and its queue. */
  concurrency(id: string, name: string): ConcurrencyKeys {
    const slots = this.#key('concurrency', encodeId(id), encodeId(name));
    return { slots, line: `${slots}:line` };
  }

  /** The prefix of the channels on which processes are woken. The name of the process follows the prefix. */
  callChannels(): string {
    return `${this.prefix}:calls:`;
  }

  /** The key of the record of one idempotent request. The scope may contain secrets, so only its hash is in the key. */
  idempotency(scope: string, key: string): string {
    return this.#key('idempotency', hashId(JSON.stringify([scope, key])));
  }

  /** The channel that announces finished idempotent requests. */
  idempotencyChannel(): string {
    return this.#key('idempotency', encodeId(this.prefix), 'ended');
  }

  /** The key of the fields of one scope. The id of a session is a secret, so only its hash is in the key. */
  state(scope: StateScopeName, id: string): string {
    return this.#key('state', scope === 'session' ? hashId(id) : encodeId(id), scope);
  }

  /** The key of a document of the collection `name`. */
  document(name: string, id: string): string {
    return this.#key('document', encodeId(id), encodeId(name));
  }

  /** The keys of a set of members: all members, and the expiries of those that expire. */
  members(name: string, id: string): MembersKeys {
    const members = this.#key('members', encodeId(id), encodeId(name));
    return { members, expiries: `${members}:expiries` };
  }

  /** The key of a log, which is also the channel that announces its new entries. */
  log(name: string, id: string): string {
    return this.#key('log', encodeId(id), encodeId(name));
  }

  /**
   * The channel of kit.publish. Its name is not encoded, so that patterns match the names that the app uses. No prefix
   * contains a brace, so the first one ends the prefix, and two kits share no channel.
   */
  channel(name: string): string {
    return `${this.prefix}:channel:{${name}}`;
  }

  /** The name that a channel of `channel()` has for the app. */
  channelName(channel: string): string {
    return channel.slice(this.prefix.length + ':channel:{'.length, -1);
  }

  /** A key that is never set: a conditional write to it shows whether its node accepts writes. */
  health(id: number): string {
    return this.#key('health', String(id));
  }

  #key(feature: Feature | 'health', id: string, part?: string, prefix: string = this.prefix): string {
    const base = `${prefix}:${feature}:{${id}}`;
    return part === undefined ? base : `${base}:${part}`;
  }
}

/** `entry`: the cached entry, or the list of its variants. `fill`: the lease of the process that produces the entry. */
export interface CacheKeys {
  readonly entry: string;
  readonly fill: string;
  variant(id: string): string;
}

export interface ConcurrencyKeys {
  readonly slots: string;
  readonly line: string;
}

export interface MembersKeys {
  readonly members: string;
  readonly expiries: string;
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

/** The feature of a key. A key in another library's format belongs to a session. */
export function featureOf(key: string): Feature {
  return (/:(rate|session|cache|lock|idempotency|concurrency|state|document|members|log):\{/.exec(key)?.[1] ??
    'session') as Feature;
}

/** Whether a lock's key is its fence counter. No other key of a lock ends like this: an encoded id has no brace. */
export function isFenceCounter(key: string): boolean {
  return key.endsWith('}:fence');
}

/**
 * An id as it appears in a key. Characters that would end the hash tag or act as a glob are percent-encoded, and `%`
 * too, so that two ids never share a key. A hash begins with `*` and the empty id is `?`: encoding leaves neither
 * character as it is, so no encoded id can equal them.
 */
export function encodeId(id: string): string {
  if (id === '') return '?';
  if (id.length <= MAX_ID_BYTES && PLAIN_ID.test(id)) return id;
  if (Buffer.byteLength(id) > MAX_ID_BYTES) return hashId(id);
  // Lone surrogates have no UTF-8 form: unencoded, all of them would become U+FFFD and share one key.
  return id.replace(/[%:{}*?[\]\\\p{Cc}\p{Cs}]/gu, (character) => {
    const code = character.charCodeAt(0);
    return code > 0xff ? `%u${code.toString(16)}` : `%${code.toString(16).padStart(2, '0')}`;
  });
}

function hashId(id: string): string {
  // Hashed as UTF-16, since in UTF-8 all lone surrogates are the same bytes.
  return `*${hash('sha256', Buffer.from(id, 'utf16le'), 'base64url')}`;
}
