import type { EventEmitter } from 'node:events';
import { setTimeout as wait } from 'node:timers/promises';
import { ConnectionError } from '../base/errors.ts';
import { PING_INTERVAL_MS, SOCKET_TIMEOUT_MS } from './adapter.ts';
import { COMMAND_OPTIONS, type CommandOptions } from './node-redis.ts';
import { addSharedListeners } from './shared-listeners.ts';

/** Silence is counted in ticks and not in time, since a blocked event loop reads no data. */
const TICK_MS = 1_000;
const PING_AFTER_TICKS = PING_INTERVAL_MS / TICK_MS;
const DEAD_AFTER_TICKS = SOCKET_TIMEOUT_MS / TICK_MS;

/** The methods that a heartbeat uses of a client with one socket. */
export interface HeartbeatClient extends Pick<EventEmitter, 'on' | 'off' | 'emit'> {
  readonly isReady: boolean;
  readonly isOpen: boolean;
  sendCommand(command: readonly string[], options: CommandOptions): Promise<unknown>;
  connect(): Promise<unknown>;
  destroy(): void;
  /** The only way to see each piece of data. With a version without it, only answers to PINGs end a silence. */
  _getQueue?(): { readonly decoder?: { write(data: Uint8Array): void } };
}

/**
 * Pings a client of node-redis that the kit opened, and connects the client again if its socket is silent. node-redis's
 * own `socketTimeout` measures time, and drops a good socket when the event loop was blocked.
 */
class Heartbeat {
  readonly #client: HeartbeatClient;
  readonly #mayConnect: () => boolean;
  readonly #timer: NodeJS.Timeout;
  readonly #removeListeners: () => void;
  /** The socket is connected, and the greeting of Redis is not answered yet. */
  #isGreeting = false;
  #isPinging = false;
  #isStopped = false;
  #silentTicks = 0;

  constructor(client: HeartbeatClient, mayConnect: () => boolean) {
    this.#client = client;
    this.#mayConnect = mayConnect;
    const heard = () => this.#heard(false);
    this.#removeListeners = addSharedListeners(client, {
      connect: () => this.#heard(true),
      ready: heard,
      error: heard,
      reconnecting: heard,
      end: heard,
    });
    // The answer to a PING may wait behind those to many commands.
    addDataListener(client, () => {
      this.#silentTicks = 0;
    });
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#removeListeners();
  }

  #heard(isGreeting: boolean): void {
    this.#isGreeting = isGreeting;
    this.#isPinging = false;
    this.#silentTicks = 0;
  }

  #tick(): void {
    if (!this.#client.isOpen && !this.#mayConnect()) {
      this.stop();
      return;
    }
    // Without a socket, node-redis waits or connects, with limits of its own.
    if (!this.#client.isReady && !this.#isGreeting) return;
    this.#silentTicks++;
    if (this.#silentTicks >= DEAD_AFTER_TICKS) this.#drop();
    else if (this.#client.isReady && !this.#isPinging && this.#silentTicks >= PING_AFTER_TICKS) this.#ping();
  }

  #ping(): void {
    this.#isPinging = true;
    // An error reply shows as well that the server answers. A lost socket has events of its own.
    const answered = () => this.#heard(false);
    this.#client.sendCommand(['PING'], COMMAND_OPTIONS).then(answered, answered);
  }

  #drop(): void {
    this.#heard(false);
    this.#client.destroy();
    this.#client.emit(
      'error',
      new ConnectionError(`the socket was silent for ${SOCKET_TIMEOUT_MS / 1_000} seconds`),
    );
    // As node-redis does for a socket that it has lost. It counts the attempts to find a new topology.
    this.#client.emit('reconnecting');
    void this.#connectLater();
  }

  /** Not at once: node-redis gives up its own attempt to connect when the closed socket is reported. */
  async #connectLater(): Promise<void> {
    await wait(20);
    if (this.#isStopped || this.#client.isOpen || !this.#mayConnect()) return;
    // Rejects only if the client is closed meanwhile; errors are emitted.
    await this.#client.connect().catch(() => undefined);
  }
}

function addDataListener(client: HeartbeatClient, listener: () => void): void {
  const decoder = client._getQueue?.().decoder;
  if (decoder === undefined) return;
  const write = decoder.write.bind(decoder);
  decoder.write = (data) => {
    listener();
    write(data);
  };
}

/** `mayConnect`: whether the client is still in use. The heartbeat ends with a closed client that is not. */
export function startHeartbeat(client: HeartbeatClient, mayConnect: () => boolean): Heartbeat {
  return new Heartbeat(client, mayConnect);
}

/** The heartbeats of the clients of a cluster, whose members change. */
export class Heartbeats {
  readonly #isMember: (client: HeartbeatClient) => boolean;
  readonly #heartbeats = new Map<HeartbeatClient, Heartbeat>();

  constructor(isMember: (client: HeartbeatClient) => boolean) {
    this.#isMember = isMember;
  }

  watch(client: HeartbeatClient | undefined): void {
    if (client === undefined || this.#heartbeats.has(client)) return;
    const mayConnect = () => {
      const isMember = this.#isMember(client);
      if (!isMember) this.#heartbeats.delete(client);
      return isMember;
    };
    this.#heartbeats.set(client, new Heartbeat(client, mayConnect));
  }

  stop(): void {
    for (const heartbeat of this.#heartbeats.values()) heartbeat.stop();
  }
}
