import { cacheFillEnd } from '../../src/cache/store/operations/fill-lease.ts';
import { cacheRead } from '../../src/cache/store/operations/read.ts';
import { cachePurge, cacheVersions } from '../../src/cache/store/operations/versions.ts';
import { cacheWrite } from '../../src/cache/store/operations/write.ts';
import { withPlainClient } from '../support/plain-client.ts';

/**
 * Loads the scripts of the cache into a server. An unknown script costs a second round trip, in which the next request may
 * overtake the write of the last one.
 */
export async function loadCacheScripts(url: string): Promise<void> {
  if (url === 'memory:') return;
  await withPlainClient(url, async (client) => {
    for (const { lua } of [cacheRead, cacheWrite, cacheVersions, cachePurge, cacheFillEnd])
      await client.scriptLoad(lua);
  });
}
