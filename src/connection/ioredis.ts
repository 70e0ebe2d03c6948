import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { ReplyError } from '../engine/port.ts';
import { redact } from './node-redis.ts';

/** The members that the adapters use of a Redis instance of ioredis or iovalkey. A cluster has one for each node. */
export interface IoredisNode extends Pick<EventEmitter, 'on' | 'off'> {
  readonly status: string;
  readonly mode: string;
  readonly stream?: Socket;
  readonly options: IoredisOptions;
  connect(): Promise<unknown>;
  disconnect(reconnect?: boolean): void;
  duplicate(overrides: object): IoredisNode & SubscriberMethods;
  callBuffer(command: string): unknown;
  sendCommand(command: IoredisCommand): unknown;
}

export interface SubscriberMethods {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  psubscribe(pattern: string): Promise<unknown>;
  punsubscribe(pattern: string): Promise<unknown>;
  ping(): Promise<unknown>;
}

interface IoredisOptions {
  readonly host?: string;
  readonly port?: number;
  readonly stringNumbers?: boolean;
  readonly retryStrategy?: unknown;
  readonly reconnectOnError?: unknown;
  readonly sentinels?: unknown;
}

/** A command of ioredis. Its promise is the only one that a command of the kit needs. */
export interface IoredisCommand {
  readonly promise: Promise<unknown>;
  readonly args: Argument[];
  reject(error: unknown): void;
  setTimeout(ms: number): void;
  transformReply(reply: unknown): unknown;
}

type CommandClass = new (name: string, args: readonly Argument[]) => IoredisCommand;

/** A command that waits for the end of the turn of the event loop. */
interface PendingCommand {
  readonly node: IoredisNode;
  readonly command: IoredisCommand;
  /** The caller's array, whose last argument may change until the command is sent. */
  readonly source: readonly Argument[];
}

/** Whether a command would be written at once, and not be queued until the client has reconnected. */
export function isReady({ status, stream }: IoredisNode): boolean {
  return status === 'ready' && stream?.writable === true;
}

/**
 * Replaces the socket of a client, after the replies to commands in flight. The app decides about that if it has set
 * `reconnectOnError`.
 */
export function replaceSocket(node: IoredisNode): void {
  if (isReady(node) && typeof node.options.reconnectOnError !== 'function') node.disconnect(true);
}

/**
 * Sends commands at the end of the turn of the event loop, as node-redis does: until then the last argument of a
 * command may be replaced. The commands are not subject to options of the client that are meant for the app's own
 * commands: automatic pipelines, which would delay and repeat them, a timeout and resending.
 */
export class IoredisSender {
  #pending: PendingCommand[] = [];

  /** `redirected` receives the command and its error if the node replies that another node serves the key. */
  send(
    node: IoredisNode,
    source: readonly Argument[],
    redirected?: (command: IoredisCommand, error: Error) => void,
  ): Promise<RawReply> {
    const command = createCommand(node, source);
    if (redirected !== undefined) followRedirects(command, redirected);
    if (this.#pending.push({ node, command, source }) === 1) setImmediate(() => this.#flush());
    return command.promise as Promise<RawReply>;
  }

  #flush(): void {
    const pending = this.#pending;
    this.#pending = [];
    const streams = new Set(pending.map(({ node }) => node.stream));
    // ioredis writes each command to the socket by itself, which costs more than the command.
    for (const stream of streams) stream?.cork();
    for (const { node, command, source } of pending) {
      if (isReady(node)) {
        const last = source.at(-1);
        if (last !== undefined && source.length > 1) command.args[source.length - 2] = last;
        node.sendCommand(command);
      } else {
        command.reject(new ConnectionError('the connection was lost before the command was sent'));
      }
    }
    for (const stream of streams) stream?.uncork();
  }
}

/** Creates a command of the client's own package, which the kit does not import. Without an encoding, replies are Buffers. */
function createCommand(node: IoredisNode, [name = '', ...args]: readonly Argument[]): IoredisCommand {
  const Command = ownClasses.get(node.callBuffer) ?? createOwnClass(node);
  const command = new Command(String(name).toLowerCase(), args);
  if (node.options.stringNumbers === true) command.transformReply = restoreNumbers;
  return command;
}

/** The classes of the kit's commands, by a method that all clients of a package share. */
const ownClasses = new WeakMap<IoredisNode['callBuffer'], CommandClass>();

function createOwnClass({ callBuffer }: IoredisNode): CommandClass {
  // The method creates a command and passes it to a method of `this`.
  const command = Reflect.apply(callBuffer, { options: {}, sendCommand: (sent: object) => sent }, ['ping']);
  const Command = (command as object).constructor as CommandClass;
  const Own = class extends Command {
    /**
     * The place in a pipeline. ioredis rejects a command at a place that does not follow the one before it when the
     * socket closes. It sends all other commands again, which may have run already.
     */
    readonly pipelineIndex = -1;

    override setTimeout(): void {
      // The client's `commandTimeout` is for the app's own commands: the kit has deadlines.
    }
  };
  ownClasses.set(callBuffer, Own);
  return Own;
}

/** With `stringNumbers`, integers are strings, as opposed to Redis's strings, which are Buffers. */
function restoreNumbers(reply: unknown): unknown {
  if (typeof reply === 'string') return Number(reply);
  return Array.isArray(reply) ? reply.map(restoreNumbers) : reply;
}

/** Passes a command on, in place of rejecting it, when its node replies that another node serves the key. */
function followRedirects(
  command: IoredisCommand,
  redirected: (command: IoredisCommand, error: Error) => void,
): void {
  const { reject } = command;
  command.reject = (error) => {
    command.reject = reject;
    if (error instanceof Error && /^(?:MOVED|ASK) /.test(error.message)) redirected(command, error);
    else command.reject(error);
  };
}

export async function ioredisReply(reply: Promise<unknown>): Promise<RawReply> {
  try {
    return (await reply) as RawReply;
  } catch (error) {
    throw ioredisErrorOf(error);
  }
}

const REDIRECTIONS = 'Too many Cluster redirections. Last error: ReplyError: ';

/** Converts an error of ioredis: to a ReplyError for an error reply. The arguments of its command are removed. */
export function ioredisErrorOf(thrown: unknown): Error {
  const { name, message } = asError(thrown);
  const isRedirection = message.startsWith(REDIRECTIONS);
  if (name === 'ReplyError' || isRedirection) {
    const cause = redact(withoutArguments(asError(thrown)));
    return new ReplyError(isRedirection ? message.slice(REDIRECTIONS.length) : cause.message, { cause });
  }
  return withoutArguments(asError(thrown));
}

/** ioredis adds the command to an error, with arguments that may be a password or the content of a session. */
function withoutArguments(error: Error): Error {
  if (!('command' in error)) return error;
  const copy = new Error(error.message);
  copy.name = error.name;
  return copy;
}
