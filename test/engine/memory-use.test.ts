import { describe, expect, it, vi } from 'vitest';
import { startProgram } from '../support/program.ts';

/** Long enough for tens of thousands of operations in a separate process on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

const MIB = 2 ** 20;

/**
 * Shared by the programs below: `heldMiB` runs work and returns the growth of the process's memory, and `churn` allocates
 * from Node's Buffer pools, as sockets and parsers of a server do between two operations.
 */
const MEASURE = `
  import { setFlagsFromString } from 'node:v8';
  import { runInNewContext } from 'node:vm';
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const used = () => {
    gc();
    gc();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  async function heldMiB(work) {
    const before = used();
    await work();
    return (used() - before) / ${MIB};
  }
  const churn = () => Buffer.from('x'.repeat(2_000));
`;

describe('the memory use of memory:', () => {
  it('memory: holds 25,000 token buckets within a quarter of the 64 MiB that the README names', async () => {
    const { ended } = startProgram(`${MEASURE}
      const kit = createRedisKit({ url: 'memory:', logger: false });
      const refill = { tokens: 1, per: '1h' };
      const limiter = kit.limiter({ algorithm: 'token-bucket', capacity: 10, refill, name: 'a' });
      await limiter.consume('first');
      const held = await heldMiB(async () => {
        for (let id = 0; id < 25_000; id++) {
          await limiter.consume('client-' + id);
          churn();
        }
      });
      const kept = (await limiter.peek('client-0')).used;
      console.log(JSON.stringify({ held, kept }));
    `);
    const { held, kept } = JSON.parse((await ended).said);
    expect(kept, 'the first bucket is still there').toBe(1);
    expect(held).toBeLessThan(64 / 4);
  });

  it('memory: holds 25,000 sessions within a quarter of the 64 MiB that the README names', async () => {
    const { ended } = startProgram(`${MEASURE}
      const kit = createRedisKit({ url: 'memory:', logger: false });
      const store = kit.sessionStore();
      const set = (id) => new Promise((resolve, reject) => {
        const session = { cookie: { originalMaxAge: null, expires: null, httpOnly: true, path: '/' }, cart: [id, 'b'] };
        store.set('session-of-a-visitor-' + id, session, (error) => (error ? reject(error) : resolve()));
      });
      await set(-1);
      const held = await heldMiB(async () => {
        for (let id = 0; id < 24_999; id++) {
          await set(id);
          churn();
        }
      });
      console.log(JSON.stringify({ held, kept: await kit.sessions.count() }));
    `);
    const { held, kept } = JSON.parse((await ended).said);
    expect(kept).toBe(25_000);
    expect(held).toBeLessThan(64 / 4);
  });

  it('memory: rejects writes before it exceeds its 64 MiB, for small and large keys and values', async () => {
    const { ended } = startProgram(`${MEASURE}
      import { MemoryKeyspace } from './src/engine/memory-keyspace.ts';
      async function fill(size, letter) {
        const memory = new MemoryKeyspace({ now: () => 0 });
        const held = await heldMiB(() => {
          try {
            for (let n = 0; ; n++) {
              churn();
              // A view of a larger Buffer, as from a socket.
              const value = Buffer.allocUnsafe(size * 2).subarray(size);
              memory.set('t:session:{' + letter.repeat(40) + n + '}', value, 1_000);
            }
          } catch (error) {
            if (error.code !== 'ERR_REDIS_KIT_FULL') throw error;
          }
        });
        if (memory.get('t:session:{' + letter.repeat(40) + '0}').length !== size) throw new Error('it is gone');
        return held;
      }
      const held = {};
      const all = [[1, 'k'], [1, '\u03ba'], [300, 'k'], [4_095, 'k'], [4_096, 'k'], [100_000, 'k']];
      for (const [size, letter] of all) {
        held[size + letter] = await fill(size, letter);
        // The previous keyspace can be collected from here on.
        await new Promise(setImmediate);
      }
      console.log(JSON.stringify(held));
    `);
    const held: Record<string, number> = JSON.parse((await ended).said);
    expect(Object.keys(held)).toHaveLength(6);
    // A tenth above the limit, for memory that V8 has freed and not returned yet.
    for (const [name, mebibytes] of Object.entries(held)) expect(mebibytes, name).toBeLessThan(64 * 1.1);
    expect(held['100000k'], 'it is used, too').toBeGreaterThan(60);
  });
});
