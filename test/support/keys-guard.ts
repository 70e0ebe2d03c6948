import { type PlainClient, withPlainClient } from './plain-client.ts';

const NO_TTL = -1;
const SHOWN_OFFENDERS = 20;

/** Keys that tests write with `ttl: null`: their id or name contains this word. */
const FOREVER = /:(?:state|document|members|log):.*forever/;

/**
 * Fails if the server has a key that does not match the pattern, or that has no TTL and is not written with `ttl: null`. Ignores keys that begin with `outside-`, which
 * are the tests' own, and those in `alreadyThere`, which existed before the run.
 */
export async function assertKeysAreOurs(
  url: string,
  prefixPattern: RegExp,
  alreadyThere: ReadonlySet<string> = new Set(),
): Promise<void> {
  const offences = await withPlainClient(url, async (client) => {
    const found: string[] = [];
    for (const key of await allKeys(client)) {
      if (key.startsWith('outside-') || alreadyThere.has(key)) continue;
      if (!prefixPattern.test(key)) found.push(`${key}: begins with no prefix of ours`);
      else if ((await client.pTTL(key)) === NO_TTL && !FOREVER.test(key)) found.push(`${key}: has no TTL`);
    }
    return found;
  });
  if (offences.length === 0) return;
  const shown = offences.slice(0, SHOWN_OFFENDERS).map((offence) => `\n  ${offence}`);
  const rest = offences.length > shown.length ? `\n  and ${offences.length - shown.length} more` : '';
  throw new Error(`keys that break the rules, ${offences.length} in all:${shown.join('')}${rest}`);
}

/** All keys of the server. */
export function keysOn(url: string): Promise<ReadonlySet<string>> {
  return withPlainClient(url, allKeys);
}

async function allKeys(client: PlainClient): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const batch of client.scanIterator({ COUNT: 1_000 })) {
    for (const key of batch) keys.add(key);
  }
  return keys;
}
