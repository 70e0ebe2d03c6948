import { performance } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import {
  type Adapter,
  reconnectDelay,
  type SocketStatus,
  SocketStatuses,
  type Status,
  type Subscriber,
} from './adapter.ts';
import type { HostAndPort } from './address.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import { type ClusterClient, type ClusterMaster, createOwnCluster } from './cluster-client.ts';
import type { ClusterSettings } from './cluster-options.ts';
import type { CommandSignal } from './command-signal.ts';
import { type HeartbeatClient, Heartbeats } from './heartbeat.ts';
import { keySlot } from './key-slot.ts';
import {
  COMMAND_OPTIONS,
  type CommandOptions,
  commandOptions,
  destroyClient,
  leaveSocket,
  readReply,
  redact,
  replyErrorOf,
} from './node-redis.ts';
import { NodeRedisSubscriber } from './node-redis-subscriber.ts';
import { addSharedListeners } from './shared-listeners.ts';
import { TopologyDiscovery } from './topology-discovery.ts';

/** The pause between attempts to connect a node: a borrowed cluster may reject at once, and cause the next attempt. */
const CONNECT_NODE_EVERY_MS = 200;

export function openCluster(settings: ClusterSettings, changed: () => void): Adapter {
  return new NodeRedisCluster(createOwnCluster(settings), true, changed);
}

export function borrowCluster(client: BorrowedClient, changed: () => void): Adapter {
  return new NodeRedisCluster(client as ClusterClient, false, changed);
}

class NodeRedisCluster implements Adapter {
  readonly mode = 'cluster';
  readonly client: ClusterClient;
  readonly #isOwn: boolean;
  readonly #changed: () => void;
  readonly #sockets = new SocketStatuses();
  readonly #closing = new AbortController();
  /** When a connection to each node was last attempted. */
  readonly #attemptedAt = new Map<string, number>();
  readonly #removeListeners: () => void;
  /** Undefined for a borrowed client, whose owner decides when a socket is dead. */
  readonly #heartbeats: Heartbeats | undefined;
  readonly #discovery: TopologyDiscovery;
  /** The address of the master on which the last subscriber was created. */
  #subscriberNode: string | undefined;
  /** Whether the cluster client failed to connect or was closed, so that no topology is known. */
  #isLost = false;
  lastError: Error | undefined;

  constructor(client: ClusterClient, isOwn: boolean, changed: () => void) {
    this.client = client;
    this.#isOwn = isOwn;
    this.#changed = changed;
    const isMember = (node: HeartbeatClient) => client.masters.some((master) => master.client === node);
    this.#heartbeats = isOwn ? new Heartbeats(isMember) : undefined;
    this.#discovery = new TopologyDiscovery(client, changed);
    for (const master of client.masters) {
      if (master.client?.isReady === true) this.#sockets.of(master.address).ready();
    }
    this.#removeListeners = addSharedListeners(client, {
      'node-ready': (node: HostAndPort) => {
        this.#heartbeats?.watch(this.#masterAt(node)?.client);
        this.#update(node, (socket) => socket.ready());
      },
      'node-reconnecting': (node: HostAndPort) => this.#update(node, (socket) => socket.reconnecting()),
      'node-error': (error: unknown, node: HostAndPort) => {
        this.lastError = redact(asError(error));
        const client = this.#masterAt(node)?.client;
        if (client?.isOpen === false) this.#update(node, (socket) => socket.ended());
        else if (client?.isReady !== true) this.#update(node, (socket) => socket.failed(error));
      },
      connect: () => this.#setLost(false),
      disconnect: () => this.#setLost(true),
      error: (error: unknown) => this.#failed(error),
    });
  }

  open(): void {
    if (this.#isOwn) void this.#connect();
  }

  nodeOf(key: string): string {
    return this.client.slots[keySlot(key)]?.master.address ?? 'cluster';
  }

  status(key: string): Status {
    const master = this.client.slots[keySlot(key)]?.master;
    if (master === undefined) return this.#unservedStatus();
    const status = this.#masterStatus(master);
    // Another node may have replaced it.
    if (status === 'down') this.refreshTopology(master.address);
    return status;
  }

  overallStatus(): Status {
    const statuses = this.client.masters.map((master) => this.#masterStatus(master));
    if (statuses.length === 0) return this.#isLost ? 'down' : 'connecting';
    if (statuses.includes('down')) return 'down';
    return statuses.includes('connecting') ? 'connecting' : 'up';
  }

  send(key: string, command: readonly Argument[], signal?: CommandSignal): Promise<RawReply> {
    const options = commandOptions(signal);
    if (command[0] === 'PUBLISH') return this.#publish(key, command, options);
    return this.client.sendCommand(key, false, command, options) as Promise<RawReply>;
  }

  /** node-redis sends each PUBLISH to another master, so messages of one channel would overtake each other. */
  async #publish(channel: string, command: readonly Argument[], options: CommandOptions): Promise<RawReply> {
    const client = this.client.slots[keySlot(channel)]?.master.client;
    if (client?.isReady !== true)
      throw new ConnectionError('the cluster node of the channel cannot be reached');
    return client.sendCommand(command, options) as Promise<RawReply>;
  }

  errorOf(error: unknown): unknown {
    return replyErrorOf(error) ?? error;
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return this.client.masters.map(({ address, client }) => async (command) => {
      if (client?.isReady !== true) throw new ConnectionError(`cluster node ${address} cannot be reached`);
      return readReply(client.sendCommand(command, COMMAND_OPTIONS));
    });
  }

  /** Sends the PING to the node directly: a PING that is sent through the cluster client goes to all nodes. */
  ping(node: string): Promise<unknown> | undefined {
    const { masters } = this.client;
    if (masters.length === 0) return Promise.reject(new ConnectionError('no node of the cluster is known'));
    const master = masters.find(({ address }) => address === node);
    if (master === undefined) return undefined;
    if (this.#masterStatus(master) !== 'up' || master.client === undefined) {
      return Promise.reject(new ConnectionError(`cluster node ${node} cannot be reached`));
    }
    return readReply(master.client.sendCommand(['PING'], COMMAND_OPTIONS));
  }

  reconnect(node: string): void {
    const client = this.client.masters.find(({ address }) => address === node)?.client;
    if (client !== undefined) leaveSocket(client, this.#sockets.of(node), this.#changed);
    this.refreshTopology(node);
  }

  refreshTopology(exceptNode: string): void {
    if (this.#closing.signal.aborted) return;
    const others = this.client.masters.filter(({ address }) => address !== exceptNode);
    this.#discovery.start(others.flatMap(({ client }) => (client?.isReady === true ? [client] : [])));
  }

  /** Creates a subscriber on any master, since a cluster passes published messages on to all of its nodes. */
  createSubscriber(): Subscriber | undefined {
    const isMaster = (address: string) => this.client.masters.some((master) => master.address === address);
    const ready = this.client.masters.filter((master) => this.#masterStatus(master) === 'up');
    // The node of the last subscriber, which was lost, is avoided. The choice is random, so that processes spread over
    // the masters.
    const others = ready.filter(({ address }) => address !== this.#subscriberNode);
    const choice = others.length > 0 ? others : ready;
    const { address, client } = choice[Math.floor(Math.random() * choice.length)] ?? {};
    if (address === undefined || client === undefined) return undefined;
    this.#subscriberNode = address;
    return new NodeRedisSubscriber(client, () => isMaster(address));
  }

  close(): void {
    this.#closing.abort();
    this.#heartbeats?.stop();
    if (this.#isOwn) this.#destroy();
    else this.#removeListeners();
  }

  #destroy(): void {
    for (const { client } of this.client.masters) if (client !== undefined) destroyClient(client);
    this.client.destroy();
  }

  /** The status of a slot without a master. */
  #unservedStatus(): Status {
    if (this.client.masters.length === 0) return this.overallStatus();
    this.refreshTopology('');
    if (this.#discovery.isRunning) return 'connecting';
    this.lastError = new ConnectionError('no node of the cluster serves the slot of the key');
    return 'down';
  }

  #masterStatus(master: ClusterMaster): Status {
    if (master.client === undefined) this.#connectNode(master);
    return this.#sockets.of(master.address).status(master.client?.isReady === true);
  }

  /** Retries to connect, since a cluster client of node-redis gives up if it reaches no node at first. */
  async #connect(): Promise<void> {
    for (let attempts = 0; !this.#closing.signal.aborted; attempts++) {
      try {
        await this.client.connect();
        // The client may have connected after `close()`.
        if (this.#closing.signal.aborted) this.#destroy();
        this.#isLost = false;
        for (const master of this.client.masters) this.#connectNode(master);
        this.#changed();
        return;
      } catch (error) {
        this.#isLost = true;
        // The error of `connect()` says only that no node was reachable; the last node's own error says why.
        this.#failed(this.lastError ?? error);
      }
      const delay = wait(reconnectDelay(attempts), undefined, { signal: this.#closing.signal });
      await delay.catch(() => undefined);
    }
  }

  #connectNode(master: ClusterMaster): void {
    const now = performance.now();
    const attemptedAt = this.#attemptedAt.get(master.address) ?? Number.NEGATIVE_INFINITY;
    if (now - attemptedAt < CONNECT_NODE_EVERY_MS) return;
    this.#attemptedAt.set(master.address, now);
    const socket = this.#sockets.of(master.address);
    socket.reconnecting();
    // `async`, since the user's `nodeAddressMap` may throw.
    const connect = async () => this.client.nodeClient(master);
    connect().catch((error: unknown) => {
      socket.failed(error);
      const cause = redact(asError(error));
      this.#failed(new ConnectionError(`cluster node ${master.address}: ${cause.message}`, { cause }));
    });
    this.#heartbeats?.watch(master.client);
  }

  /** `host` and `port` are those of the socket, and differ from the announced address if the cluster maps addresses. */
  #masterAt({ host, port }: HostAndPort): ClusterMaster | undefined {
    return this.client.masters.find(({ client }) => {
      const socket = client?.options?.socket;
      return socket?.host === host && socket.port === port;
    });
  }

  #update(node: HostAndPort, change: (socket: SocketStatus) => void): void {
    change(this.#sockets.of(this.#masterAt(node)?.address ?? `${node.host}:${node.port}`));
    this.#changed();
  }

  #setLost(isLost: boolean): void {
    this.#isLost = isLost;
    this.#changed();
  }

  #failed(error: unknown): void {
    this.lastError = redact(asError(error));
    this.#changed();
  }
}
