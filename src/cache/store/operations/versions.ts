import { defineOperation, type Keyspace, type Operation } from '../../../engine/operation.ts';
import { arrayOf, integerAt, newerFormat } from '../../../engine/reply.ts';
import { storedInteger } from '../../../engine/stored-integer.ts';

/*
 * The values that invalidate cache entries: the sequence, '1:<last>', and for each name (a tag, a URL, `all`) its
 * version, '1:<hard>:<soft>', the sequences of its last purges. An entry is invalid if the hard version of one of its
 * names is higher than the sequence that was read before the entry was filled, and stale if a soft version is higher.
 */

/** Versions are kept this much longer than the caller asks for, so that few reads must extend their TTL. */
const SLACK_MS = 60_000;

/** A purged version is kept this long: every fill that runs during the purge must still find it. */
const PURGE_TTL_MS = 86_400_000;

/**
 * Defines `sequence()`; `version(key)`, which returns hard and soft; and `put(key, value, ttl)`, which never shortens a
 * TTL. A value in a newer format sets `is_newer`. A lost sequence begins at the server's time in microseconds, which is
 * higher than any sequence before.
 */
const VERSIONS_LUA = /* lua */ `
local is_newer = false
local function text(key)
  local raw = read('GET', key)
  if type(raw) ~= 'string' then return '' end
  if string.match(raw, '^%d+:') and not string.match(raw, '^[01]:') then is_newer = true end
  return raw
end
local function sequence()
  return stored_integer(string.match(text(KEYS[1]), '^1:(%d+)$'))
end
local function version(key)
  local hard, soft = string.match(text(key), '^1:(%d+):(%d+)$')
  hard, soft = stored_integer(hard), stored_integer(soft)
  if hard and soft then return hard, soft end
end
local function put(key, value, ttl)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.max(ttl, redis.call('PTTL', key))))
end
`;

export interface CacheVersionsArgs {
  /** Milliseconds for which the versions must be kept. */
  readonly ttl: number;
}

interface Version {
  readonly hard: number;
  readonly soft: number;
}

export interface CacheVersionsReply {
  readonly sequence: number;
  /** One version per name, in the order of the keys. */
  readonly versions: readonly Version[];
}

/*
 * Reads the versions of some names. A missing version may have been lost together with purges, so it begins at the last
 * sequence: an entry is invalid if any name was purged after the entry was filled.
 *
 * KEYS   1 the sequence, 2... the versions
 * ARGV   1 time, 2 ttl ms
 * reply  {newer 0 or 1, sequence, hard, soft, hard, soft, ...}
 */
const lua = /* lua */ `${VERSIONS_LUA}
local ttl, last, missing = tonumber(ARGV[2]), sequence(), {}
local top, reply = last or now_us, { 0, 0 }
for i = 2, #KEYS do
  local hard, soft = version(KEYS[i])
  if hard then top = math.max(top, hard, soft) else missing[#missing + 1] = i end
  reply[2 * i - 1], reply[2 * i] = hard, soft
end
if is_newer then return { 1 } end
for _, i in ipairs(missing) do
  reply[2 * i - 1], reply[2 * i] = top, 0
  put(KEYS[i], string.format('1:%.0f:0', top), ttl + ${SLACK_MS})
end
if last ~= top then put(KEYS[1], string.format('1:%.0f', top), ttl + ${SLACK_MS}) end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl + ${SLACK_MS}) end
end
reply[2] = top
return reply
`;

export const cacheVersions: Operation<CacheVersionsArgs, CacheVersionsReply> = defineOperation({
  name: 'cache-versions',
  lua,
  encode: ({ ttl }) => [String(ttl)],
  runInMemory(memory, keys, now, { ttl }) {
    const [sequenceKey = '', ...versionKeys] = keys;
    const last = sequenceIn(memory, sequenceKey);
    const versions = versionKeys.map((key) => versionIn(memory, key));
    if (keys.some((key) => isNewer(memory, key))) return [1];
    const top = Math.max(
      last ?? now * 1000,
      ...versions.flatMap((each) => (each ? [each.hard, each.soft] : [])),
    );
    const read = versions.map((each, index) => {
      if (each === undefined) put(memory, versionKeys[index] ?? '', `1:${top}:0`, ttl + SLACK_MS);
      return each ?? { hard: top, soft: 0 };
    });
    if (last !== top) put(memory, sequenceKey, `1:${top}`, ttl + SLACK_MS);
    for (const key of keys) {
      const value = memory.get(key);
      if (value !== undefined && (memory.ttl(key) ?? 0) < ttl) memory.set(key, value, ttl + SLACK_MS);
    }
    return [0, top, ...read.flatMap(({ hard, soft }) => [hard, soft])];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (integerAt(fields, 0) === 1) throw newerFormat('cache');
    const versions: Version[] = [];
    for (let at = 2; at < fields.length; at += 2) {
      versions.push({ hard: integerAt(fields, at), soft: integerAt(fields, at + 1) });
    }
    return { sequence: integerAt(fields, 1), versions };
  },
});

export interface CachePurgeArgs {
  /** Whether the entries become stale instead of invalid. */
  readonly soft: boolean;
  readonly channel: string;
  /** The scope of the namespace. */
  readonly scope: string;
  readonly names: readonly string[];
}

/*
 * Takes the next sequence, writes it to the versions, and publishes ["purged", sequence, soft 0 or 1, scope, names].
 *
 * KEYS   1 the sequence, 2... the versions
 * ARGV   1 time, 2 soft 0 or 1, 3 channel, 4 scope and names, as JSON
 * reply  {newer 0 or 1, new sequence, previous sequence}
 */
const purgeLua = /* lua */ `${VERSIONS_LUA}
local top, versions = sequence() or 0, {}
for i = 2, #KEYS do
  local hard, soft = version(KEYS[i])
  versions[i] = { hard or 0, soft or 0 }
  top = math.max(top, hard or 0, soft or 0)
end
if is_newer then return { 1, 0, 0 } end
local next = math.max(top + 1, now_us)
put(KEYS[1], string.format('1:%.0f', next), ${PURGE_TTL_MS})
for i = 2, #KEYS do
  local hard, soft = next, versions[i][2]
  if ARGV[2] == '1' then hard, soft = versions[i][1], next end
  put(KEYS[i], string.format('1:%.0f:%.0f', hard, soft), ${PURGE_TTL_MS})
end
-- By pcall: an ACL that denies PUBLISH must not prevent the purge, and local copies end soon anyway.
redis.pcall('PUBLISH', ARGV[3], string.format('["purged",%.0f,%s,%s]', next, ARGV[2], ARGV[4]))
return { 0, next, top }
`;

export interface CachePurgeReply {
  /** Entries of a lower sequence are purged. */
  readonly sequence: number;
  /** The sequence of the purge before this one, or a higher sequence. */
  readonly previous: number;
}

export const cachePurge: Operation<CachePurgeArgs, CachePurgeReply> = defineOperation({
  name: 'cache-purge',
  lua: purgeLua,
  encode: (args) => [args.soft ? '1' : '0', args.channel, subjectOf(args)],
  runInMemory(memory, keys, now, args) {
    const { soft, channel } = args;
    const [sequenceKey = '', ...versionKeys] = keys;
    const versions = versionKeys.map((key) => versionIn(memory, key) ?? { hard: 0, soft: 0 });
    if (keys.some((key) => isNewer(memory, key))) return [1, 0, 0];
    const known = versions.flatMap((each) => [each.hard, each.soft]);
    const top = Math.max(sequenceIn(memory, sequenceKey) ?? 0, ...known);
    const next = Math.max(top + 1, now * 1000);
    put(memory, sequenceKey, `1:${next}`, PURGE_TTL_MS);
    for (const [index, version] of versions.entries()) {
      const value = soft ? `1:${version.hard}:${next}` : `1:${next}:${version.soft}`;
      put(memory, versionKeys[index] ?? '', value, PURGE_TTL_MS);
    }
    memory.publish(channel, `["purged",${next},${soft ? 1 : 0},${subjectOf(args)}]`);
    return [0, next, top];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    if (integerAt(fields, 0) === 1) throw newerFormat('cache');
    return { sequence: integerAt(fields, 1), previous: integerAt(fields, 2) };
  },
});

/** The JSON of the scope and the names, without brackets: the last two members of the message. */
function subjectOf({ scope, names }: CachePurgeArgs): string {
  return JSON.stringify([scope, names]).slice(1, -1);
}

function textIn(memory: Keyspace, key: string): string {
  return memory.get(key)?.toString('latin1') ?? '';
}

function isNewer(memory: Keyspace, key: string): boolean {
  const text = textIn(memory, key);
  return /^\d+:/.test(text) && !/^[01]:/.test(text);
}

function sequenceIn(memory: Keyspace, key: string): number | undefined {
  return storedInteger(/^1:(\d+)$/.exec(textIn(memory, key))?.[1]);
}

function versionIn(memory: Keyspace, key: string): Version | undefined {
  const parts = /^1:(\d+):(\d+)$/.exec(textIn(memory, key));
  const [hard, soft] = [storedInteger(parts?.[1]), storedInteger(parts?.[2])];
  return hard === undefined || soft === undefined ? undefined : { hard, soft };
}

/** Sets a value, and never shortens the TTL of its key. */
function put(memory: Keyspace, key: string, value: string, ttl: number): void {
  memory.set(key, Buffer.from(value, 'latin1'), Math.max(ttl, memory.ttl(key) ?? 0));
}
