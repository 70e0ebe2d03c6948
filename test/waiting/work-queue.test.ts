import { describe, expect, it } from 'vitest';
import { OpenWork } from '../../src/base/open-work.ts';
import { WorkQueue } from '../../src/waiting/work-queue.ts';

function start(settings: { readonly workers: number; readonly queue: number }) {
  const { signal } = new AbortController();
  const deps = { work: new OpenWork(), closing: signal, closeDeadline: signal };
  return new WorkQueue({ timeoutMs: 60_000, onFull: 'wait', ...settings }, deps);
}

describe('Callers that wait for space in a queue', () => {
  it.each([
    ['one key', () => 'a'],
    ['many keys', (number: number) => `key ${number}`],
  ])('a completion does not look at all callers that wait, with work of %s', async (_name, keyOf) => {
    const queue = start({ workers: 10, queue: 10 });
    const count = 2_000;
    const ran: number[] = [];
    let keyReads = 0;
    for (let number = 0; number < count; number++) {
      void queue.push({
        get key() {
          keyReads++;
          return keyOf(number);
        },
        run: async () => void ran.push(number),
        drop: () => expect.unreachable('nothing is dropped'),
      });
    }
    await queue.flush();
    expect(ran).toEqual(Array.from({ length: count }, (_, number) => number));
    expect(keyReads).toBeLessThan(20 * count);
  });

  it('work of an idle key does not wait behind callers, and does not overtake those of its key', async () => {
    const queue = start({ workers: 2, queue: 1 });
    const ran: string[] = [];
    let endFirst: (() => void) | undefined;
    const push = (name: string, run = async () => undefined as unknown) =>
      void queue.push({
        key: name.charAt(0),
        run: async () => {
          ran.push(name);
          await run();
        },
        drop: () => expect.unreachable('nothing is dropped'),
      });
    push('a1', () => new Promise<void>((resolve) => (endFirst = resolve)));
    for (const name of ['a2', 'a3', 'b1', 'b2']) push(name);
    await new Promise((resolve) => setImmediate(resolve));
    expect(ran).toEqual(['a1', 'b1']);
    endFirst?.();
    await queue.flush();
    expect(ran.filter((name) => name.startsWith('a'))).toEqual(['a1', 'a2', 'a3']);
    expect(ran.filter((name) => name.startsWith('b'))).toEqual(['b1', 'b2']);
  });
});
