import { cacheFillEnd } from '../../src/cache/store/operations/fill.ts';
import { cacheRead } from '../../src/cache/store/operations/read.ts';
import { cachePurge, cacheVersions } from '../../src/cache/store/operations/versions.ts';
import { cacheWrite } from '../../src/cache/store/operations/write.ts';
import { withPlainClient } from '../support/plain-client.ts';

/**
 * Acquaints a server with the scripts of the cache. One that it does not know costs a second round trip, in which the
 * next request may overtake the store of the last.
 */
export async function loadCacheScripts(url: string): Promise<void> {
  if (url === 'memory:') return;
  await withPlainClient(url, async (client) => {
    for (const { lua } of [cacheRead, cacheWrite, cacheVersions, cachePurge, cacheFillEnd])
      await client.scriptLoad(lua);
  });
}
