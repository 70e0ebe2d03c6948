import type { Clock } from '../base/clock.ts';
import type { MemoryKeyspace } from './memory-keyspace.ts';
import type { Engine, Publisher } from './port.ts';

/**
 * Runs the in-memory implementations of operations. None of them awaits anything, so each operation is atomic.
 * `checkOpen` throws once the kit is closed, so that a call after `close()` also fails on `memory:`, as on Redis.
 */
export function memoryEngine(
  memory: MemoryKeyspace,
  clock: Clock,
  checkOpen: () => void = () => undefined,
): Engine & Publisher {
  return {
    // `async`, so that the promise rejects if the implementation throws, as it does for a script.
    async run(operation, keys, args) {
      checkOpen();
      return operation.decode(operation.runInMemory(memory, keys, clock.now(), args));
    },

    async publish(channel, message) {
      checkOpen();
      memory.publish(channel, message);
    },

    async *scan(pattern) {
      checkOpen();
      yield memory.matching(pattern);
    },

    async delete(keys) {
      checkOpen();
      return keys.filter((key) => memory.delete(key)).length;
    },
  };
}
