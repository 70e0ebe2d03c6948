import type { Documents } from 'redis-kit';
import type { RedisClient } from '../connections.ts';
import { appWith, bareHandler, type Row, type Setup } from '../row.ts';

/** A server runs this many operations at the same time for each request, and gets one request at a time. */
export const OPERATIONS_AT_ONCE = 50;

const TTL_MS = 3_600_000;

interface Draft {
  readonly id: string;
  readonly text: string;
  readonly tags: readonly string[];
}

const draftOf = (id: string): Draft => ({ id, text: 'x'.repeat(1_000), tags: ['a', 'b'] });

/** In turn ten thousand ids, which no two operations use at once. */
let count = 0;
const nextId = () => `draft-${++count % 10_000}`;

function appThatRuns(operation: (id: string) => Promise<unknown>): ReturnType<Setup> {
  return appWith(async (_req, _res, next) => {
    await Promise.all(Array.from({ length: OPERATIONS_AT_ONCE }, () => operation(nextId())));
    next();
  });
}

const withDocuments =
  (operation: (drafts: Documents<Draft>, id: string) => Promise<unknown>): Setup =>
  async ({ connectKit }) => {
    const drafts = (await connectKit()).documents<Draft>('drafts', { ttl: TTL_MS });
    return appThatRuns((id) => operation(drafts, id));
  };

/** The same with plain commands, as an app would write it. */
const withCommands =
  (operation: (client: RedisClient, key: string) => Promise<unknown>): Setup =>
  async ({ connectClient, prefix }) => {
    const client = await connectClient();
    return appThatRuns((id) => operation(client, `${prefix}:${id}`));
  };

const store = (client: RedisClient, key: string) =>
  client.set(key, JSON.stringify(draftOf(key)), { expiration: { type: 'PX', value: TTL_MS } });

const request = { connections: 1 };

export const documentRows: Readonly<Record<string, Row>> = {
  'documents-set': {
    title: 'a document that is stored',
    bare: bareHandler,
    kit: { 'kit.documents': withDocuments((drafts, id) => drafts.set(id, draftOf(id))) },
    peers: { 'SET with JSON': withCommands(store) },
    request,
  },
  'documents-get': {
    title: 'a document that is read',
    bare: bareHandler,
    kit: {
      'kit.documents': withDocuments(
        async (drafts, id) => (await drafts.get(id)) ?? drafts.set(id, draftOf(id)),
      ),
    },
    peers: {
      'GET with JSON': withCommands(async (client, key) => {
        const text = await client.get(key);
        return text === null ? store(client, key) : JSON.parse(text);
      }),
    },
    request,
  },
  'documents-update': {
    title: 'a document that is updated',
    bare: bareHandler,
    kit: { 'kit.documents': withDocuments((drafts, id) => drafts.update(id, () => draftOf(id))) },
    peers: {},
    request,
  },
  'documents-delete': {
    title: 'a document that is stored and deleted',
    bare: bareHandler,
    kit: {
      'kit.documents': withDocuments(async (drafts, id) => {
        await drafts.set(id, draftOf(id));
        await drafts.delete(id);
      }),
    },
    peers: {
      'SET and DEL': withCommands(async (client, key) => {
        await store(client, key);
        await client.del(key);
      }),
    },
    request,
  },
};
