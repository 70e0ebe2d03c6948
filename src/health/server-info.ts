import { type ServerVersion, versionWarnings } from './script-flaws.ts';

/** The fields of INFO, by name. */
export type ServerInfo = ReadonlyMap<string, string>;

export function parseInfo(text: string): ServerInfo {
  const lines = text.split('\r\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
}

/** Above this share of `maxmemory`, a server that evicts nothing soon refuses writes. */
const FULL_SHARE = 0.9;

/** Warnings about one server. `save`: its setting of this name; undefined if the server did not return it. */
export function serverWarnings(info: ServerInfo, save: string | undefined): readonly string[] {
  return [
    ...productWarnings(info),
    ...roleWarnings(info),
    ...evictionWarnings(info),
    ...memoryWarnings(info),
    ...persistenceWarnings(info, save),
  ];
}

function productWarnings(info: ServerInfo): readonly string[] {
  const version = versionOf(info);
  return version === undefined ? [] : versionWarnings(version);
}

/** Servers that also report a `redis_version`, which says nothing about the flaws of their own code. */
const IMITATIONS = ['dragonfly_version', 'garnet_version', 'kvrocks_version'];

function versionOf(info: ServerInfo): ServerVersion | undefined {
  const valkey = info.get('valkey_version');
  if (valkey !== undefined) return { product: 'Valkey', version: valkey };
  const redis = info.get('redis_version');
  const isImitation = IMITATIONS.some((name) => info.has(name));
  return redis === undefined || isImitation ? undefined : { product: 'Redis', version: redis };
}

export const REPLICA =
  'the server is a replica: it refuses writes, or loses them at its next synchronization; connect to its master';

function roleWarnings(info: ServerInfo): readonly string[] {
  return info.get('role') === 'slave' ? [REPLICA] : [];
}

function evictionWarnings(info: ServerInfo): readonly string[] {
  const policy = info.get('maxmemory_policy');
  if (policy === undefined) return ['maxmemory-policy could not be read: INFO does not show it'];
  if (policy === 'noeviction') return [];
  const limit =
    Number(info.get('maxmemory')) > 0 ? 'when its memory is full' : 'as soon as maxmemory is set and reached';
  return [
    `maxmemory-policy is ${policy}: Redis may drop locks, sessions and idempotency records ${limit}; set it to noeviction`,
  ];
}

function memoryWarnings(info: ServerInfo): readonly string[] {
  const limit = Number(info.get('maxmemory'));
  const share = Number(info.get('used_memory')) / limit;
  if (info.get('maxmemory_policy') !== 'noeviction' || !(limit > 0) || share < FULL_SHARE) return [];
  return [`${Math.round(share * 100)} % of maxmemory is in use; a full server refuses all writes`];
}

function persistenceWarnings(info: ServerInfo, save: string | undefined): readonly string[] {
  const failed = ['rdb_last_bgsave_status', 'aof_last_write_status'].filter(
    (name) => info.get(name) === 'err',
  );
  const failures = failed.map((name) => `the server could not write its data to disk (${name}:err)`);
  if (info.get('aof_enabled') !== '0' || save !== '') return failures;
  return [
    ...failures,
    'the server has no persistence (save is empty and appendonly is no): a restart loses sessions and idempotency records',
  ];
}
