import type { Clock } from '../base/clock.ts';
import type { MemoryKeyspace } from './memory-keyspace.ts';
import type { Engine } from './port.ts';

/**
 * Runs the in-memory implementations. None of them awaits anything, so each operation is atomic. `checkOpen` throws once
 * the kit is closed, as a closed connection does, so that a use after close() also fails in development.
 */
export function memoryEngine(
  memory: MemoryKeyspace,
  clock: Clock,
  checkOpen: () => void = () => undefined,
): Engine {
  return {
    // `async`, so that an implementation that throws rejects, as a script does.
    async run(operation, keys, args) {
      checkOpen();
      return operation.decode(operation.runInMemory(memory, keys, clock.now(), args));
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
