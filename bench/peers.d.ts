/* Declarations for peers that have none, or whose own cannot be found through their package.json. */
declare module 'apicache' {
  import type { RequestHandler } from 'express';

  interface ApiCache {
    middleware(duration: string): RequestHandler;
    newInstance(): ApiCache;
  }
  const apicache: ApiCache;
  export default apicache;
}

declare module 'redlock' {
  import type { Redis } from 'ioredis';

  export default class Redlock {
    constructor(clients: Redis[], settings?: { retryCount?: number });
    acquire(keys: string[], leaseMs: number): Promise<{ release(): Promise<unknown> }>;
  }
}
