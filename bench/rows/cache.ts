import apicache from 'apicache';
import { appWith, bareHandler, type Row, withKit } from '../row.ts';

/** An instance of its own for each route, as the cache of one app. */
export const peerCache = () => apicache.newInstance().middleware('1 hour');

export const cacheRows: Readonly<Record<string, Row>> = {
  hit: {
    title: 'a cached response',
    bare: bareHandler,
    kit: {
      'kit.cache, held in the process': withKit((kit) => kit.cache({ ttl: '1h' })),
      'kit.cache, in Redis': withKit((kit) => kit.cache({ ttl: '1h', local: false })),
      'kit.front, held in the process': async (connections) => {
        const kit = await connections.connectKit();
        return kit.front(appWith(kit.cache({ ttl: '1h', front: true })));
      },
    },
    peers: { 'apicache, in the process': () => appWith(peerCache()) },
  },
};
