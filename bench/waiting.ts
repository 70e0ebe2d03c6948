import { performance } from 'node:perf_hooks';
import { countCommands } from '../test/support/wire.ts';

/** A library with which a lock is acquired and released. */
export interface Locking {
  readonly name: string;
  take(key: string, work: () => void): Promise<unknown>;
}

const WAITERS = 64;
const ROUNDS = 5;

/** Starts many waiters for one lock, for each library in turn, and prints the time and the commands of an acquisition. */
export async function compareWaiting(redisUrl: string, ways: readonly Locking[]): Promise<void> {
  const results = ways.map(() => ({ ms: [] as number[], commands: [] as number[], inOrder: [] as number[] }));
  for (let round = -1; round < ROUNDS; round++) {
    for (const [index, way] of ways.entries()) {
      const order: number[] = [];
      let tookMs = 0;
      const commands = await countCommands(redisUrl, async () => {
        const beganAt = performance.now();
        await Promise.all(
          Array.from({ length: WAITERS }, (_, place) =>
            way.take(`waited-for:${index}`, () => order.push(place)),
          ),
        );
        tookMs = performance.now() - beganAt;
      });
      if (round < 0) continue;
      results[index]?.ms.push(tookMs / WAITERS);
      results[index]?.commands.push(commands.length / WAITERS);
      results[index]?.inOrder.push(order.filter((place, turn) => place === turn).length);
    }
  }
  console.log(`\nA lock that ${WAITERS} want at once\n`);
  console.log('| | ms each | commands each | granted in order |');
  console.log('|---|---|---|---|');
  for (const [index, { name }] of ways.entries()) {
    const { ms = [], commands = [], inOrder = [] } = results[index] ?? {};
    console.log(
      `| ${name} | ${median(ms).toFixed(2)} | ${median(commands).toFixed(1)} | ${median(inOrder)} of ${WAITERS} |`,
    );
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
