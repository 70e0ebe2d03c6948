import type { Log } from 'redis-kit';
import type { RedisClient } from '../connections.ts';
import { appWith, bareHandler, type Row, type Setup } from '../row.ts';

const LIMIT = 1_000;
const HOUR_MS = 3_600_000;
const MESSAGE = { from: 'ann', text: 'a message of a chat, about as long as most of them are' };

/** In turn a hundred rooms. */
let messages = 0;
const nextRoom = () => `room-${++messages % 100}`;

/** Calls the log once for each request. */
const withLog =
  (use: (log: Log<typeof MESSAGE>) => Promise<unknown>, begin: typeof use = async () => undefined): Setup =>
  async ({ connectKit }) => {
    const log = (await connectKit()).log<typeof MESSAGE>('messages', { limit: LIMIT, ttl: HOUR_MS });
    await begin(log);
    return appWith(async (_req, _res, next) => {
      await use(log);
      next();
    });
  };

const withStream =
  (use: (redis: RedisClient, keyOf: (room: string) => string) => Promise<unknown>): Setup =>
  async ({ connectClient, prefix }) => {
    const redis = await connectClient();
    return appWith(async (_req, _res, next) => {
      await use(redis, (room) => `${prefix}:${room}`);
      next();
    });
  };

/** What an app would write by hand: the event, its limit, its lifetime and an announcement. */
function appendByHand(redis: RedisClient, key: string): Promise<unknown> {
  const text = JSON.stringify(MESSAGE);
  return redis
    .multi()
    .xAdd(key, '*', { event: text }, { TRIM: { strategy: 'MAXLEN', threshold: LIMIT } })
    .pExpire(key, HOUR_MS)
    .publish(key, text)
    .exec();
}

async function readByHand(redis: RedisClient, key: string): Promise<unknown> {
  const entries = await redis.xRevRange(key, '+', '-', { COUNT: 10 });
  return entries?.reverse().map(({ message }) => JSON.parse(message.event ?? 'null'));
}

const fillRoom = async (append: () => Promise<unknown>) => {
  for (let batch = 0; batch < 10; batch++) await Promise.all(Array.from({ length: 100 }, append));
};

export const logRows: Readonly<Record<string, Row>> = {
  'log-append': {
    title: 'an event appended to a log',
    bare: bareHandler,
    kit: { 'kit.log': withLog((log) => log.append(nextRoom(), MESSAGE)) },
    peers: {
      'a transaction of node-redis': withStream((redis, keyOf) => appendByHand(redis, keyOf(nextRoom()))),
    },
  },
  'log-last': {
    title: 'the last 10 of 1,000 events of a log',
    bare: bareHandler,
    kit: {
      'kit.log': withLog(
        (log) => log.last('room', 10),
        (log) => fillRoom(() => log.append('room', MESSAGE)),
      ),
    },
    peers: {
      'XREVRANGE of node-redis': async (connections) => {
        const redis = await connections.connectClient();
        await fillRoom(() => appendByHand(redis, `${connections.prefix}:room`));
        return withStream((client, keyOf) => readByHand(client, keyOf('room')))(connections);
      },
    },
  },
};
