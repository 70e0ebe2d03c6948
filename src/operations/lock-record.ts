import type { Found } from './reply.ts';

/*
 * How a held lock is stored: '1:<fence>:<deadline>:<token>'. The deadline, in ms of the server's clock, is what
 * ends the lease; the key's TTL only follows it.
 */

/** Defines `load()`, which answers { found, fence, deadline, token } of KEYS[1]; a free lock has deadline 0. */
export const LOCK_LUA = `
local function load()
  local raw = read('GET', KEYS[1])
  if not raw then return { found = 0, deadline = 0 } end
  if type(raw) ~= 'string' then return { found = 1, deadline = 0 } end
  local version = tonumber(string.match(raw, '^(%d+):') or '')
  if version and version > 1 then return { found = 2, deadline = 0 } end
  local fence, deadline, token = string.match(raw, '^1:(%d+):(%d+):([%w_-]+)$')
  if not fence then return { found = 1, deadline = 0 } end
  return { found = 0, fence = tonumber(fence), deadline = tonumber(deadline), token = token }
end
`;

export interface LockRecord {
  readonly found: Found;
  readonly fence: number;
  readonly deadline: number;
  readonly token: string | undefined;
}

export function unpackLock(value: Buffer | undefined): LockRecord {
  const none = { fence: 0, deadline: 0, token: undefined };
  if (value === undefined) return { found: 'fine', ...none };
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', ...none };
  const parts = /^1:(\d+):(\d+):([\w-]+)$/.exec(text);
  if (parts === null) return { found: 'corrupt', ...none };
  return { found: 'fine', fence: Number(parts[1]), deadline: Number(parts[2]), token: parts[3] };
}

export function packLock(fence: number, deadline: number, token: string): Buffer {
  return Buffer.from(`1:${fence}:${deadline}:${token}`, 'latin1');
}
