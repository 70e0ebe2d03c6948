import type { EventEmitter } from 'node:events';
import { ConnectionError } from '../base/errors.ts';
import { PING_INTERVAL_MS, SOCKET_TIMEOUT_MS } from './adapter.ts';
import { COMMAND_OPTIONS, type CommandOptions } from './node-redis.ts';

/** Silence is counted in ticks and not in time, since a blocked event loop hears nothing. */
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
}

const EVENTS = ['connect', 'ready', 'error', 'reconnecting', 'end'] as const;

/**
 * Pings a client of node-redis that the kit opened, and connects the client again if its socket is silent. node-redis's
 * own `socketTimeout` measures time, and drops a good socket when the event loop was blocked.
 */
export class Heartbeat {
  readonly #client: HeartbeatClient;
  readonly #mayConnect: () => boolean;
  readonly #timer: NodeJS.Timeout;
  readonly #listeners: ReadonlyMap<string, () => void>;
  /** The socket is connected, and the greeting of Redis is not answered yet. */
  #isGreeting = false;
  #isPinging = false;
  #silentTicks = 0;

  /** `mayConnect`: whether the client is still in use. The heartbeat ends with a closed client that is not. */
  constructor(client: HeartbeatClient, mayConnect: () => boolean) {
    this.#client = client;
    this.#mayConnect = mayConnect;
    this.#listeners = new Map(EVENTS.map((event) => [event, () => this.#heard(event === 'connect')]));
    for (const [event, listener] of this.#listeners) client.on(event, listener);
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const [event, listener] of this.#listeners) this.#client.off(event, listener);
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
    // Not at once: node-redis gives up its own attempt to connect when the closed socket is reported.
    setTimeout(() => {
      if (this.#client.isOpen || !this.#mayConnect()) return;
      // Rejects only if the client is closed meanwhile; errors are emitted.
      this.#client.connect().catch(() => undefined);
    }, 20);
  }
}
