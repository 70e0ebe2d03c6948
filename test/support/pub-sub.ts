import { onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Connection } from '../../src/connection/connection.ts';
import type { ConnectionOptions } from '../../src/connection/options.ts';
import type { ChannelListener, ChannelPattern, PubSub } from '../../src/engine/pub-sub.ts';
import { openConnection } from './connection.ts';
import { connectPlainClient, type PlainClient, withPlainClient } from './plain-client.ts';
import { type RedisServer, startRedis } from './servers.ts';
import { until } from './until.ts';

/** Records the messages and the status of a channel. */
export interface ChannelRecorder extends ChannelListener {
  readonly messages: readonly string[];
  readonly changes: readonly boolean[];
  readonly isUp: boolean;
  stop(): void;
}

export function recordChannel(pubSub: PubSub, channel: string | ChannelPattern): ChannelRecorder {
  const messages: string[] = [];
  const changes: boolean[] = [];
  const listener: ChannelListener = {
    onMessage: (message) => void messages.push(message),
    onStatus: (isUp) => void changes.push(isUp),
  };
  const stop = pubSub.subscribe(channel, listener);
  return {
    ...listener,
    messages,
    changes,
    get isUp() {
      return changes.at(-1) === true;
    },
    stop,
  };
}

/** A connection that is closed with the test, and its error events. */
export interface TestConnection {
  readonly connection: Connection;
  readonly pubSub: PubSub;
  readonly errors: readonly KitEvents['error'][];
}

export function connectForTest(options: ConnectionOptions): TestConnection {
  const events = new Emitter<KitEvents>(silentLogger);
  const errors: KitEvents['error'][] = [];
  events.on('error', (event) => errors.push(event));
  const connection = openConnection(options, 2_000, events);
  onTestFinished(() => connection.close(1_000));
  return { connection, pubSub: connection.pubSub, errors };
}

export async function startServerForTest(
  options: Parameters<typeof startRedis>[0] = {},
): Promise<RedisServer> {
  const server = await startRedis(options);
  onTestFinished(() => server.stop());
  return server;
}

export async function publisherFor({ url }: RedisServer): Promise<PlainClient> {
  const client = await connectPlainClient(url);
  onTestFinished(() => client.destroy());
  return client;
}

/** A server, a ready connection to it, and a client that publishes. */
export async function startAll() {
  const server = await startServerForTest();
  const { connection, pubSub, errors } = connectForTest({ url: server.url });
  await connection.ready();
  return { server, connection, pubSub, errors, publisher: await publisherFor(server) };
}

/** The number of connected clients, without the one that asks. */
export function connectedClients(url: string): Promise<number> {
  return withPlainClient(url, async (client) => {
    const list = String(await client.sendCommand(['CLIENT', 'LIST']));
    return list.trim().split('\n').length - 1;
  });
}

export async function connectionsSoFar(client: PlainClient): Promise<number> {
  return Number(/total_connections_received:(\d+)/.exec(await client.info('stats'))?.[1]);
}

/** The subscribers of a server, as CLIENT LIST shows them. */
export function listenersAt(url: string): Promise<readonly string[]> {
  return withPlainClient(url, async (client) => {
    const list = String(await client.sendCommand(['CLIENT', 'LIST', 'TYPE', 'pubsub']));
    return list.split('\n').filter((line) => line !== '');
  });
}

/** Publishes a message once the channel is up, and waits until it arrives. */
export async function receivesAgain(
  recorder: ChannelRecorder,
  publisher: PlainClient,
  channel: string,
): Promise<void> {
  await until('it is up', () => recorder.isUp);
  const message = `again ${recorder.messages.length}`;
  await publisher.publish(channel, message);
  await until('it hears', () => recorder.messages.includes(message));
}
