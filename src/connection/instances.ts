import type { Clock } from '../base/clock.ts';
import { describe, suggestion } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { OptionReader } from '../base/option-reader.ts';
import { MemoryKeyspace } from '../engine/memory-keyspace.ts';
import { isClientName } from './access.ts';
import { openTransport } from './connect.ts';
import {
  CONNECTION_OPTION_NAMES,
  type ConnectionOptions,
  type ConnectionSettings,
  FOREIGN_CONNECTION_NAMES,
  resolveConnection,
} from './options.ts';
import type { Transport } from './transport.ts';

/** Where an instance is: every way of a kit, except another instance. */
export type InstanceSettings = Exclude<ConnectionSettings, { kind: 'instance' }>;

const instances = new Map<string, Instance>();

/**
 * Registers a connection under a name, for `createRedisKit({ instance: name })`. The kits with this name share one
 * connection for commands and one subscriber. Both are opened with the first kit and closed with the last one, and a
 * later kit opens them again. A name can be registered again while no kit uses it. Throws a ConfigError when an option is
 * wrong, or while a kit uses the name.
 */
export function registerRedis(name: string, connection: ConnectionOptions): void {
  if (typeof name !== 'string' || !isClientName(name)) {
    throw new ConfigError(
      `registerRedis: the name is ${describe(name)}; it must be a string of visible ASCII characters without spaces`,
    );
  }
  const reader = new OptionReader(
    'registerRedis',
    connection,
    CONNECTION_OPTION_NAMES,
    FOREIGN_CONNECTION_NAMES,
  );
  const settings = resolveConnection(reader, process.env, name);
  if (settings.kind === 'instance') {
    throw reader.error(
      'instance',
      'an instance needs a connection of its own; say where Redis is, for example with `url`',
    );
  }
  if (instances.get(name)?.isOpen === true) {
    throw new ConfigError(
      `registerRedis: the name ${describe(name)} is in use by a kit; close its kits first, or choose another name`,
    );
  }
  instances.set(name, new Instance(settings));
}

/** Returns the instance that the option `instance` of a kit names. */
export function findInstance(reader: OptionReader, name: string): Instance {
  const instance = instances.get(name);
  if (instance !== undefined) return instance;
  throw reader.error(
    'instance',
    instances.size === 0
      ? 'no instance is registered; call registerRedis() before createRedisKit()'
      : `it is not registered; ${suggestion(name, 'instances', [...instances.keys()])}`,
  );
}

/** The memory of a `memory:` instance, and the number of kits that use it. */
interface SharedMemory {
  readonly keyspace: MemoryKeyspace;
  readonly clock: Clock;
  kits: number;
}

/** A registered connection: what its kits share exists from the first to the last of them. */
export class Instance {
  readonly settings: InstanceSettings;
  #transport: Transport | undefined;
  #memory: SharedMemory | undefined;

  constructor(settings: InstanceSettings) {
    this.settings = settings;
  }

  get isOpen(): boolean {
    return this.#transport !== undefined || this.#memory !== undefined;
  }

  /** Returns the open transport, or opens one. The caller must join it at once. */
  transport(): Transport {
    if (this.settings.kind === 'memory') throw new TypeError('there is no transport to memory');
    this.#transport ??= openTransport(this.settings, () => {
      this.#transport = undefined;
    });
    return this.#transport;
  }

  /** Returns the shared memory and a function that leaves it. The last kit that leaves drops the data. */
  joinMemory(clock: Clock): { readonly keyspace: MemoryKeyspace; leave(): void } {
    const memory = this.#memory ?? { keyspace: new MemoryKeyspace(clock), clock, kits: 0 };
    if (memory.clock !== clock) {
      throw new ConfigError(
        'createRedisKit: option `clock` differs from that of the other kits on this instance, which share its memory',
      );
    }
    memory.kits++;
    this.#memory = memory;
    let hasLeft = false;
    return {
      keyspace: memory.keyspace,
      leave: () => {
        if (hasLeft) return;
        hasLeft = true;
        memory.kits--;
        if (memory.kits === 0) this.#memory = undefined;
      },
    };
  }
}
