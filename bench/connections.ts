import { createClient } from 'redis';
import { createRedisKit, type RedisKit } from 'redis-kit';

export type RedisClient = Awaited<ReturnType<typeof connectClient>>;

/** The ways of one server to Redis. */
export interface Connections {
  readonly url: string;
  /** The first part of every key of this server. */
  readonly prefix: string;
  connectKit(): Promise<RedisKit>;
  /** The client of the peers. */
  connectClient(): Promise<RedisClient>;
}

export function connectionsTo(url: string, prefix: string): Connections {
  return {
    url,
    prefix,
    async connectKit() {
      // On a busy machine a login may take longer than the default of half a second.
      const kit = createRedisKit({ url, prefix, commandTimeout: '10s' });
      await kit.ready();
      return kit;
    },
    connectClient: () => connectClient(url),
  };
}

async function connectClient(url: string) {
  return await createClient({ url }).connect();
}
