import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { type Adapter, SocketStatus, type Status, type Subscriber } from './adapter.ts';
import type { ServerAddress } from './address.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import type { CommandSignal } from './command-signal.ts';
import { type HeartbeatClient, startHeartbeat } from './heartbeat.ts';
import {
  COMMAND_OPTIONS,
  clientOptions,
  commandOptions,
  destroyClient,
  hostOptions,
  isDestroyed,
  leaveSocket,
  readReply,
  redact,
  replyErrorOf,
  SOCKET_OPTIONS,
} from './node-redis.ts';
import { DUPLICATE_OPTIONS, type NodeClient, NodeRedisSubscriber } from './node-redis-subscriber.ts';
import type { StandaloneSettings } from './options.ts';
import { createNodeRedisClient, type OwnClient } from './redis-package.ts';
import { addSharedListeners } from './shared-listeners.ts';

interface SingleClient extends NodeClient, HeartbeatClient, Omit<BorrowedClient, 'sendCommand'> {
  sendCommand: NodeClient['sendCommand'];
}

/** Creates a client that the kit connects and closes. `socket` replaces options of its socket. */
export function createOwnClient(
  settings: Omit<StandaloneSettings, 'kind'> & ServerAddress,
  socket: { readonly reconnectStrategy?: false; readonly signal?: AbortSignal } = {},
): OwnClient {
  const options = clientOptions(settings);
  const endpoint = 'path' in settings ? { path: settings.path } : hostOptions(settings, settings.tls);
  const client = createNodeRedisClient({
    ...options,
    socket: { ...options.socket, ...endpoint, ...socket },
    database: settings.db,
  });
  const watched: BorrowedClient = client;
  startHeartbeat(
    watched as HeartbeatClient,
    () => socket.reconnectStrategy !== false && !isDestroyed(client),
  );
  return client;
}

export function openStandalone(settings: StandaloneSettings, changed: () => void): Adapter {
  const client: BorrowedClient = createOwnClient(settings);
  return new NodeRedisClient(client as SingleClient, true, changed);
}

/** Opens a client of the kit with the address and credentials of another client. */
export function openDuplicate(original: NodeClient, changed: () => void): Adapter {
  const duplicate: unknown = original.duplicate({
    ...DUPLICATE_OPTIONS,
    socket: { ...original.options?.socket, ...SOCKET_OPTIONS },
  });
  const client = duplicate as SingleClient;
  startHeartbeat(client, () => !isDestroyed(client));
  return new NodeRedisClient(client, true, changed);
}

export function borrowStandalone(client: BorrowedClient, changed: () => void): Adapter {
  return new NodeRedisClient(client as SingleClient, false, changed);
}

class NodeRedisClient implements Adapter {
  readonly mode = 'standalone';
  readonly client: SingleClient;
  readonly #isOwn: boolean;
  readonly #changed: () => void;
  readonly #socket = new SocketStatus();
  readonly #removeListeners: () => void;
  #lastError: Error | undefined;

  constructor(client: SingleClient, isOwn: boolean, changed: () => void) {
    this.client = client;
    this.#isOwn = isOwn;
    this.#changed = changed;
    if (client.isReady) this.#socket.ready();
    this.#removeListeners = addSharedListeners(client, {
      ready: () => {
        this.#socket.ready();
        changed();
      },
      reconnecting: () => {
        this.#socket.reconnecting();
        changed();
      },
      // Without a listener for 'error', a lost socket would end the process.
      error: (error) => this.#failed(error),
      end: () => {
        this.#socket.ended();
        changed();
      },
    });
  }

  open(): void {
    if (!this.#isOwn) return;
    // node-redis retries by itself; `connect()` rejects only if the client is closed meanwhile.
    this.client.connect().catch((error: unknown) => this.#failed(error));
  }

  get lastError(): Error | undefined {
    if (this.#isOwn || this.client.isOpen) return this.#lastError;
    return new Error('the client is not connected; call and await its connect()');
  }

  nodeOf(): string {
    return 'redis';
  }

  status(): Status {
    return this.#socket.status(this.client.isReady);
  }

  overallStatus(): Status {
    return this.status();
  }

  send(_key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply> {
    return this.client.sendCommand(command, commandOptions(signal)) as Promise<RawReply>;
  }

  errorOf(error: unknown): unknown {
    return replyErrorOf(error) ?? error;
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return [(command) => (this.client.isReady ? readReply(this.send('', command)) : unreachable())];
  }

  ping(): Promise<unknown> {
    if (!this.client.isReady) return unreachable();
    return readReply(this.client.sendCommand(['PING'], COMMAND_OPTIONS));
  }

  reconnect(): void {
    leaveSocket(this.client, this.#socket, this.#changed);
  }

  refreshTopology(): void {
    // The only node is looked up by name when it is connected again.
  }

  createSubscriber(): Subscriber | undefined {
    // The subscriber is closed as well when the app closes a borrowed client.
    return this.client.isReady ? new NodeRedisSubscriber(this.client, () => this.client.isOpen) : undefined;
  }

  close(): void {
    if (this.#isOwn) destroyClient(this.client);
    else this.#removeListeners();
  }

  #failed(error: unknown): void {
    this.#lastError = redact(asError(error));
    // An error reply to a PING of a client, or an error of its connection that has not ended it.
    if (!this.client.isOpen) this.#socket.ended();
    else if (!this.client.isReady) this.#socket.failed(error);
    this.#changed();
  }
}

/** A borrowed client with an offline queue would keep a command until the server is back. */
function unreachable(): Promise<never> {
  return Promise.reject(new ConnectionError('Redis cannot be reached'));
}
