import type { Clock } from '../base/clock.ts';
import type { Keyspace, Operation } from '../operations/operation.ts';
import type { Engine } from './port.ts';

/** Runs the operations' twins. Nothing here waits, so a single process sees each operation as atomic. */
export function memoryEngine(memory: Keyspace, clock: Clock): Engine {
  return {
    // `async` for the errors: a twin that throws must reject, as a script does.
    async run<Args, Reply>(
      operation: Operation<Args, Reply>,
      keys: readonly string[],
      args: Args,
    ): Promise<Reply> {
      return operation.decode(operation.twin(memory, keys, clock.now(), args));
    },

    async delete(keys) {
      return keys.filter((key) => memory.delete(key)).length;
    },
  };
}
