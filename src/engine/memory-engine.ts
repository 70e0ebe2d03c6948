import type { Clock } from '../base/clock.ts';
import type { MemoryKeyspace } from './memory-keyspace.ts';
import type { Operation } from './operation.ts';
import type { Engine } from './port.ts';

/**
 * Runs the operations' twins. Nothing here waits, so a single process sees each operation as atomic. Closed, it refuses
 * as a closed connection does, so that what forgets to stop in time is seen on a laptop: `checkOpen` throws then.
 */
export function memoryEngine(
  memory: MemoryKeyspace,
  clock: Clock,
  checkOpen: () => void = () => undefined,
): Engine {
  return {
    // `async` for the errors: a twin that throws must reject, as a script does.
    async run<Args, Reply>(
      operation: Operation<Args, Reply>,
      keys: readonly string[],
      args: Args,
    ): Promise<Reply> {
      checkOpen();
      return operation.decode(operation.twin(memory, keys, clock.now(), args));
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
