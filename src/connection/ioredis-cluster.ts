import { ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { ReplyError } from '../engine/port.ts';
import { type Adapter, SocketStatus, SocketStatuses, type Status, type Subscriber } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import type { CommandSignal } from './command-signal.ts';
import {
  type IoredisCommand,
  type IoredisNode,
  IoredisSender,
  ioredisErrorOf,
  ioredisReply,
  isReady,
  replaceSocket,
} from './ioredis.ts';
import { IoredisSubscriber } from './ioredis-subscriber.ts';
import { type IoredisClusterClient, mastersOf } from './ioredis-topology.ts';
import { keySlot } from './key-slot.ts';
import { addSharedListeners } from './shared-listeners.ts';

/** The cluster is asked for its topology at this interval while a master is not connected. */
const REFRESH_EVERY_MS = 250;

export function borrowIoredisCluster(client: BorrowedClient, changed: () => void): Adapter {
  return new IoredisCluster(client as IoredisClusterClient, changed);
}

/**
 * A borrowed cluster client of ioredis or iovalkey. Commands go to the nodes directly: the cluster client would send
 * commands again that may have run, and would wait for a node that is not connected.
 */
class IoredisCluster implements Adapter {
  readonly mode = 'cluster';
  readonly client: IoredisClusterClient;
  readonly #changed: () => void;
  readonly #sender = new IoredisSender();
  /** The status of the cluster client, which reconnects when it has lost all nodes. */
  readonly #socket = new SocketStatus();
  readonly #sockets = new SocketStatuses();
  readonly #nodes = new Map<string, IoredisNode>();
  /** The addresses of the nodes that serve slots. */
  #masters: ReadonlySet<string> = new Set();
  readonly #removeListeners = new Map<unknown, () => void>();
  #refreshTimer: NodeJS.Timeout | undefined;
  /** The address of the master on which the last subscriber was created. */
  #subscriberNode: string | undefined;
  #isOpen = false;
  lastError: Error | undefined;

  constructor(client: IoredisClusterClient, changed: () => void) {
    this.client = client;
    this.#changed = changed;
    if (client.status === 'ready') this.#socket.ready();
    const listeners = {
      ready: () => {
        this.#socket.ready();
        this.#update();
      },
      reconnecting: () => this.#socket.reconnecting(),
      close: () => this.#failed(this.#socket, Symbol('close')),
      error: (error: unknown) => {
        this.#noteError(error);
        this.#failed(this.#socket, error);
      },
      'node error': (error: unknown) => this.#noteError(error),
      end: changed,
      refresh: () => this.#update(),
      '+node': () => this.#update(),
      '-node': () => this.#update(),
    };
    this.#removeListeners.set(client, addSharedListeners(client, listeners));
  }

  open(): void {
    this.#isOpen = true;
    this.#update();
  }

  wake(): void {
    if (this.client.status === 'wait')
      this.client.connect().catch((error: unknown) => this.#noteError(error));
  }

  nodeOf(key: string): string {
    return this.client.slots[keySlot(key)]?.[0] ?? 'cluster';
  }

  status(key: string): Status {
    if (this.client.status !== 'ready') return this.#clusterStatus();
    const master = this.client.slots[keySlot(key)]?.[0];
    if (master !== undefined) return this.#masterStatus(master);
    this.#refreshLater();
    this.lastError = new ConnectionError('no node of the cluster serves the slot of the key');
    return 'down';
  }

  overallStatus(): Status {
    if (this.client.status !== 'ready' || this.#masters.size === 0) return this.#clusterStatus();
    const statuses = Array.from(this.#masters, (master) => this.#masterStatus(master));
    if (statuses.includes('down')) return 'down';
    return statuses.includes('connecting') ? 'connecting' : 'up';
  }

  send(key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply> {
    const node = this.#nodes.get(this.nodeOf(key));
    if (node === undefined)
      return Promise.reject(new ConnectionError('no node of the cluster serves the key'));
    // The cluster client follows MOVED and ASK, after which a command has not run.
    return this.#sender.send(node, command, (redirected, error) => {
      if (signal?.aborted === true) redirected.reject(error);
      else this.#follow(redirected, error);
    });
  }

  errorOf(error: unknown): unknown {
    const converted = ioredisErrorOf(error);
    // A redirection that was not followed: nothing ran.
    if (!(converted instanceof ReplyError) || !converted.message.startsWith('MOVED ')) return converted;
    return new ReplyError(`ASK ${converted.message}`, { cause: converted });
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return Array.from(this.#masters, (address) => async (command) => {
      const node = this.#nodes.get(address);
      if (node === undefined || !isReady(node)) throw unreachable(address);
      return ioredisReply(this.#sender.send(node, command));
    });
  }

  ping(address: string): Promise<unknown> | undefined {
    if (this.client.status !== 'ready')
      return Promise.reject(new ConnectionError('the cluster is not connected'));
    if (!this.#masters.has(address)) return undefined;
    const node = this.#nodes.get(address);
    if (node === undefined || !isReady(node)) return Promise.reject(unreachable(address));
    return ioredisReply(this.#sender.send(node, ['PING']));
  }

  reconnect(address: string): void {
    const node = this.#nodes.get(address);
    if (node === undefined) return;
    // The node ends, and the next topology has it again.
    replaceSocket(node);
    this.refreshTopology();
  }

  refreshTopology(): void {
    if (this.client.status === 'ready') this.client.refreshSlotsCache();
  }

  /** Creates a subscriber on any master, since a cluster passes published messages on to all of its nodes. */
  createSubscriber(): Subscriber | undefined {
    const ready = [...this.#masters].filter((address) => this.#masterStatus(address) === 'up');
    // The node of the last subscriber, which was lost, is avoided. The choice is random, so that processes spread over
    // the masters.
    const others = ready.filter((address) => address !== this.#subscriberNode);
    const choice = others.length > 0 ? others : ready;
    const address = choice[Math.floor(Math.random() * choice.length)] ?? '';
    const node = this.#nodes.get(address);
    if (node === undefined) return undefined;
    this.#subscriberNode = address;
    return new IoredisSubscriber(node, () => this.client.status !== 'end' && this.#masters.has(address));
  }

  close(): void {
    clearTimeout(this.#refreshTimer);
    for (const remove of this.#removeListeners.values()) remove();
    this.#removeListeners.clear();
    this.#isOpen = false;
  }

  /** The cluster client keeps a command for a node that is not ready, and would send it after the caller's deadline. */
  #follow(command: IoredisCommand, error: Error): void {
    const address = this.client.natMapper(error.message.split(' ')[2] ?? '');
    const found = this.client.connectionPool.findOrCreate(address);
    // iovalkey has a record for each node.
    const node = 'redis' in found ? found.redis : found;
    if (isReady(node)) {
      void this.client.sendCommand(command);
      return;
    }
    if (node.status === 'wait') node.connect().catch(isEmitted);
    // A new topology would remove a node that serves no slot yet.
    if (error.message.startsWith('MOVED ')) this.refreshTopology();
    command.reject(error);
  }

  #clusterStatus(): Status {
    return this.client.status === 'end' ? 'down' : this.#socket.status(false);
  }

  #masterStatus(address: string): Status {
    const node = this.#nodes.get(address);
    return this.#sockets.of(address).status(node !== undefined && isReady(node));
  }

  /** Follows the topology, and connects all masters: ioredis connects a node when it sends the first command to it. */
  #update(): void {
    if (!this.#isOpen) return;
    this.#masters = mastersOf(this.client);
    this.#followNodes();
    if (this.client.status === 'ready') {
      for (const address of this.#masters) this.#connect(address);
    }
    this.#changed();
  }

  #followNodes(): void {
    const nodes = this.client.nodes('all');
    this.#nodes.clear();
    for (const node of nodes) {
      const address = addressOf(node);
      this.#nodes.set(address, node);
      if (!this.#removeListeners.has(node))
        this.#removeListeners.set(node, this.#addListeners(node, address));
    }
    for (const [emitter, remove] of this.#removeListeners) {
      if (emitter === this.client || nodes.some((node) => node === emitter)) continue;
      remove();
      this.#removeListeners.delete(emitter);
    }
  }

  #addListeners(node: IoredisNode, address: string): () => void {
    const socket = this.#sockets.of(address);
    if (isReady(node)) socket.ready();
    return addSharedListeners(node, {
      ready: () => {
        socket.ready();
        this.#changed();
      },
      close: () => this.#failed(socket, Symbol('close')),
    });
  }

  #connect(address: string): void {
    const node = this.#nodes.get(address);
    // ioredis removes a node whose socket is lost, until it has refreshed its topology.
    if (node === undefined) this.#refreshLater();
    if (node?.status !== 'wait') return;
    this.#sockets.of(address).reconnecting();
    node.connect().catch(isEmitted);
  }

  #refreshLater(): void {
    if (!this.#isOpen || this.#refreshTimer !== undefined) return;
    this.#refreshTimer = setTimeout(() => this.#refresh(), REFRESH_EVERY_MS).unref();
  }

  #refresh(): void {
    this.#refreshTimer = undefined;
    // Otherwise the cluster client reconnects, and emits an event.
    if (this.client.status !== 'ready') return;
    this.refreshTopology();
    const isMissing = (address: string) => !this.#nodes.has(address);
    if ([...this.#masters].some(isMissing)) this.#refreshLater();
  }

  #failed(socket: SocketStatus, cause: unknown): void {
    socket.failed(cause);
    this.#changed();
  }

  #noteError(error: unknown): void {
    this.lastError = ioredisErrorOf(error);
  }
}

function isEmitted(): void {
  // The events `error` and `node error` have the cause; the rejection says only that the connection was closed.
}

function addressOf({ options }: IoredisNode): string {
  return `${options.host}:${options.port}`;
}

function unreachable(address: string): ConnectionError {
  return new ConnectionError(`cluster node ${address} cannot be reached`);
}
