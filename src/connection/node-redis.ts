import type { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import type { RedisClientOptions } from 'redis';
import type { RawReply } from '../engine/operation.ts';
import { ReplyError } from '../engine/port.ts';
import { type Access, currentPassword, type Password } from './access.ts';
import { reconnectDelay, type SocketStatus } from './adapter.ts';
import type { HostAndPort } from './address.ts';
import type { CommandSignal } from './command-signal.ts';

/** Shorter than the 5 s of `kit.ready()`, whose error then has the cause. */
export const CONNECT_TIMEOUT_MS = 4_000;

/**
 * node-redis drops a socket without traffic for this long. `Heartbeat` does so earlier; node-redis's own timeout also
 * elapses while the event loop is blocked, and is for sockets that the kit does not see, which ask for the topology.
 */
const BACKSTOP_MS = 15_000;

/** The time in which Redis must close a socket after QUIT. */
const QUIT_TIMEOUT_MS = 1_000;

/** The type of strings in replies, in node-redis's `RESP_TYPES`: the first byte of such a reply. */
const BLOB_STRING = 0x24;

/**
 * The options of each command. Strings in replies are Buffers. The timeout of node-redis is off, since `Connection` has
 * timeouts of its own: node-redis's timeout covers only commands that were not yet written, and its AbortSignal per
 * command costs a third of the throughput.
 */
export const COMMAND_OPTIONS: CommandOptions = {
  typeMapping: { [BLOB_STRING]: Buffer },
  timeout: 0,
};

export interface CommandOptions {
  readonly typeMapping: Readonly<Record<number, unknown>>;
  readonly timeout: 0;
  readonly abortSignal?: CommandSignal | undefined;
}

/** The options of a command that is not sent once the signal is aborted. */
export function commandOptions(abortSignal: CommandSignal | undefined): CommandOptions {
  return { typeMapping: COMMAND_OPTIONS.typeMapping, timeout: 0, abortSignal };
}

/** The socket options of each client that the kit creates. */
export const SOCKET_OPTIONS: Omit<SocketOptions, 'family'> = {
  connectTimeout: CONNECT_TIMEOUT_MS,
  socketTimeout: BACKSTOP_MS,
  // The default strategy of node-redis never reconnects after a socket timeout.
  reconnectStrategy: reconnectDelay,
};

/** The options of each client that the kit creates, without the address of its server. */
export function clientOptions({ username, password, tls, family, clientName }: Access): OwnClientOptions {
  return {
    // An offline queue would send commands long after they were rejected.
    disableOfflineQueue: true,
    commandOptions: { timeout: 0 },
    name: clientName,
    socket: {
      ...SOCKET_OPTIONS,
      family,
      ...(tls === false ? {} : { ...(tls === true ? {} : tls), tls: true as const }),
    },
    // For these notifications, node-redis looks up the host by itself, which fails where the user's `lookup` is needed.
    ...(typeof tls === 'object' && 'lookup' in tls ? { maintNotifications: 'disabled' as const } : {}),
    // A function keeps the password out of the client's options, which a log could print.
    ...(username === undefined && password === undefined
      ? {}
      : { credentialsProvider: credentialsProvider(username, password) }),
  };
}

interface OwnClientOptions {
  readonly disableOfflineQueue: true;
  readonly commandOptions: { readonly timeout: 0 };
  readonly name: string;
  readonly socket: SocketOptions;
  readonly maintNotifications?: 'disabled';
  readonly credentialsProvider?: ReturnType<typeof credentialsProvider>;
}

interface SocketOptions extends TlsOptions {
  readonly connectTimeout: number;
  readonly socketTimeout: number;
  readonly reconnectStrategy: (attempts: number) => number;
  readonly family: 0 | 4 | 6;
  readonly tls?: true;
}

function credentialsProvider(
  username: string | undefined,
  password: Password | undefined,
): NonNullable<RedisClientOptions['credentialsProvider']> {
  return {
    type: 'async-credentials-provider',
    credentials: async () => ({
      ...(username === undefined ? {} : { username }),
      // Redis accepts any password for a user that needs none, and node-redis does not log in without a password.
      password: password === undefined ? 'none' : await currentPassword(password),
    }),
  };
}

/** The options of a TCP socket to one server. Gateways choose a server by `servername`, and servers a certificate. */
export function hostOptions({ host, port }: HostAndPort, tls: Access['tls']): HostOptions {
  const isGiven = typeof tls === 'object' && tls.servername !== undefined;
  if (tls === false || isGiven || isIP(host) !== 0) return { host, port };
  return { host, port, servername: host.replace(/\.$/, '') };
}

interface HostOptions extends HostAndPort {
  readonly servername?: string;
}

const destroyed = new WeakSet<object>();

/** Destroys a client now, and again when it is ready: node-redis does not stop a socket that is still connecting. */
export function destroyClient(client: Pick<EventEmitter, 'on'> & { destroy(): void }): void {
  destroyed.add(client);
  client.on('ready', () => client.destroy());
  try {
    client.destroy();
  } catch {
    // node-redis 5 throws if the client is closed already.
  }
}

/** Whether the kit has destroyed the client for good. */
export function isDestroyed(client: object): boolean {
  return destroyed.has(client);
}

interface LeavableClient {
  readonly isReady: boolean;
  readonly options?: { readonly socket?: object | undefined } | undefined;
  sendCommand(command: readonly string[], options: CommandOptions): Promise<unknown>;
}

/**
 * Makes a client connect again, after the replies that it waits for: Redis answers QUIT, which needs no rights, and
 * closes the socket, and the client looks up host and credentials again. `changed` is called if that fails.
 */
export function leaveSocket(client: LeavableClient, socket: SocketStatus, changed: () => void): void {
  const options: { reconnectStrategy?: unknown } | undefined = client.options?.socket;
  if (!client.isReady || socket.isLeaving || options?.reconnectStrategy === false) return;
  const abandon = socket.leave();
  const stay = () => {
    abandon();
    changed();
  };
  client.sendCommand(['QUIT'], COMMAND_OPTIONS).then(() => setTimeout(stay, QUIT_TIMEOUT_MS).unref(), stay);
}

/**
 * Removes command arguments from an error. Redis repeats the arguments of a command that it does not know, and those of
 * the first command of a connection (HELLO or AUTH) contain the password.
 */
export function redact(error: Error): Error {
  const [message = ''] = error.message.split(/,? with args beginning with/, 1);
  return message === error.message ? error : new Error(message);
}

export async function readReply(reply: Promise<unknown>): Promise<RawReply> {
  try {
    return (await reply) as RawReply;
  } catch (error) {
    throw replyErrorOf(error) ?? error;
  }
}

/** Converts an error reply of Redis to a ReplyError; returns undefined for any other error. */
export function replyErrorOf(error: unknown): ReplyError | undefined {
  if (!isErrorReply(error) && !isLostRedirection(error)) return undefined;
  const cause = redact(error);
  return new ReplyError(isLostRedirection(error) ? `ASK ${cause.message}` : cause.message, { cause });
}

/**
 * Recognizes an error of a cluster client that does not know the node of a redirection yet, or that was redirected too
 * often. The last reply was MOVED or ASK, so that nothing ran.
 */
function isLostRedirection(error: unknown): error is Error {
  return error instanceof Error && /^(?:Cannot find node |Too many Cluster redirections)/.test(error.message);
}

/** Recognizes an error reply by its first word in capitals: each copy of node-redis has an ErrorReply class of its own. */
function isErrorReply(error: unknown): error is Error {
  return error instanceof Error && /^[A-Z]{2,} /.test(error.message);
}
