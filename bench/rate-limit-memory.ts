/*
 * The bytes that Redis keeps for one identity when its log is full. The scripts run at injected times, so that an hour of
 * arrivals takes seconds; they store the same as in a real hour.
 */
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { createClient } from 'redis';
import { slidingWindow } from '../src/rate-limit/operations/sliding-window.ts';
import { limitTake } from '../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../src/rate-limit/operations/token-bucket.ts';
import { startRedis } from '../test/support/servers.ts';

const WINDOW_MS = 3_600_000;
const BEGIN = 1_700_000_000_000;

/** The times at which the requests of three windows arrive, each window at the full rate. */
const ARRIVALS = {
  'evenly spread': (hit: number, limit: number) => BEGIN + Math.floor((hit * WINDOW_MS) / limit),
  'ten in a millisecond': (hit: number, limit: number) =>
    BEGIN + Math.floor((Math.floor(hit / 10) * 10 * WINDOW_MS) / limit),
  'the whole limit at once': (hit: number, limit: number) => BEGIN + Math.floor(hit / limit) * WINDOW_MS,
} as const;

const server = await startRedis();
const client = createClient({ url: server.url });
await client.connect();

type Hit = (key: string, at: number, limit: number) => Promise<unknown>;

const kitHit =
  (algorithm: typeof slidingWindow, rateOf: (limit: number) => number): Hit =>
  (key, at, limit) => {
    const policies = [{ algorithm, numbers: [limit, WINDOW_MS, rateOf(limit)] as const }];
    const { sha, encode } = limitTake(policies);
    const args = encode({ mode: 'take', costs: [1], policies }).map(String);
    return client.evalSha(sha, { keys: [key], arguments: [String(at), ...args] });
  };

/** The usual log in a sorted set: one member per request, as short as a unique member can be. */
const SORTED_SET = `
local now, window, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now - window)
if redis.call('ZCARD', KEYS[1]) >= limit then return 0 end
redis.call('ZADD', KEYS[1], now, now .. ':' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], window)
return 1`;

let member = 0;
const sortedSetHit: Hit = (key, at, limit) =>
  client.eval(SORTED_SET, { keys: [key], arguments: [at, WINDOW_MS, limit, member++].map(String) });

const WAYS: readonly (readonly [string, Hit])[] = [
  ['sliding window', kitHit(slidingWindow, () => 1)],
  ['sliding window, resolution of a hundredth', kitHit(slidingWindow, () => WINDOW_MS / 100)],
  ['token bucket', kitHit(tokenBucket, (limit) => limit)],
  ['a sorted set', sortedSetHit],
];

/** The size of the key in the two windows after the first full one: the median and the maximum. */
async function bytesOf(
  hit: Hit,
  limit: number,
  arrival: (hit: number, limit: number) => number,
): Promise<string> {
  const key = `outside-bench:${member++}`;
  const seen: number[] = [];
  const step = Math.max(1, limit / 100);
  for (let first = 0; first < 3 * limit; first += step) {
    const hits = Array.from({ length: step }, (_, nth) => hit(key, arrival(first + nth, limit), limit));
    await Promise.all(hits);
    if (first + step < limit) continue;
    seen.push((await client.memoryUsage(key, { SAMPLES: 0 })) ?? 0);
  }
  await client.del(key);
  seen.sort((a, b) => a - b);
  const [usual, most] = [seen[Math.floor(seen.length / 2)] ?? 0, seen.at(-1) ?? 0];
  return usual === most
    ? most.toLocaleString('en')
    : `${usual.toLocaleString('en')} to ${most.toLocaleString('en')}`;
}

async function flexibleBytes(limit: number): Promise<number> {
  const keyPrefix = `outside-bench-${limit}`;
  const limiter = new RateLimiterRedis({
    storeClient: client,
    useRedisPackage: true,
    keyPrefix,
    points: limit,
    duration: WINDOW_MS / 1_000,
  });
  await limiter.consume('flexible', limit);
  return (await client.memoryUsage(`${keyPrefix}:flexible`, { SAMPLES: 0 })) ?? 0;
}

try {
  for (const algorithm of [slidingWindow, tokenBucket]) {
    await client.scriptLoad(limitTake([{ algorithm, numbers: [1, 1, 1] }]).lua);
  }
  console.log('\nBytes of one key with a full window: usually, and to the most that was seen\n');
  console.log('| | limit | evenly spread | ten in a millisecond | the whole limit at once |');
  console.log('|---|---|---|---|---|');
  for (const limit of [100, 10_000]) {
    for (const [name, hit] of WAYS) {
      const cells: string[] = [];
      for (const arrival of Object.values(ARRIVALS)) {
        cells.push(await bytesOf(hit, limit, arrival));
      }
      console.log(`| ${name} | ${limit.toLocaleString('en')} | ${cells.join(' | ')} |`);
    }
    const bytes = await flexibleBytes(limit);
    console.log(
      `| rate-limiter-flexible (fixed window) | ${limit.toLocaleString('en')} | ${Array(3).fill(bytes).join(' | ')} |`,
    );
  }
} finally {
  client.destroy();
  await server.stop();
}
