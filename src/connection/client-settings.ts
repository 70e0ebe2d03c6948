import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';

/** The settings of a client that matter to the kit, in the options of all families. */
interface ClientSettings {
  readonly keyPrefix?: unknown;
  /** ioredis; node-redis has `readonly`. */
  readonly readOnly?: unknown;
  readonly readonly?: unknown;
  /** ioredis with `sentinels`. */
  readonly role?: unknown;
  readonly RESP?: unknown;
  /** A cluster of ioredis. */
  readonly redisOptions?: { readonly stringNumbers?: unknown } | undefined;
  readonly autoResendUnfulfilledCommands?: unknown;
  readonly retryDelayOnFailover?: unknown;
}

/** The members that the checks read. Each family has some of them. */
interface CheckedClient {
  readonly options?: ClientSettings | undefined;
  /** node-redis 6. */
  readonly _keyPrefix?: unknown;
  /** ioredis: `normal`, `subscriber` or `monitor`. */
  readonly mode?: string;
  /** node-redis. */
  readonly isPubSubActive?: boolean;
}

/** Throws for a client whose settings or state keep the kit from working. */
export function checkSettings(client: object): void {
  const problem = problemOf(client as CheckedClient);
  if (problem !== undefined) throw new ConfigError(`createRedisKit: option \`client\` ${problem}`);
}

function problemOf(client: CheckedClient): string | undefined {
  const options = client.options ?? {};
  const keyPrefix = options.keyPrefix ?? client._keyPrefix;
  if (keyPrefix !== undefined && keyPrefix !== null && keyPrefix !== '') {
    return (
      `has the \`keyPrefix\` ${describe(keyPrefix)}, which would not apply to all keys and channels; ` +
      'pass a client that is created without it, and set the option `prefix` of the kit'
    );
  }
  if (options.redisOptions?.stringNumbers === true) {
    return 'has `stringNumbers` in `redisOptions`, with which ioredis does not know the masters of most slots; remove that option';
  }
  if (options.readOnly === true || options.readonly === true || options.role === 'slave') {
    return 'is meant for a replica, which accepts no writes; pass a client of the master';
  }
  if (client.mode === 'monitor' || client.mode === 'subscriber' || isSubscriber(client)) {
    return `is in ${client.mode ?? 'subscriber'} mode, in which it sends no other commands; pass another client, such as a duplicate()`;
  }
  return undefined;
}

/** With RESP2, the default of node-redis 5, a client with subscriptions sends no other commands. */
function isSubscriber(client: CheckedClient): boolean {
  if (client.isPubSubActive !== true) return false;
  const { RESP } = client.options ?? {};
  const isVersion5 = !('_keyPrefix' in client);
  return RESP === 2 || (RESP === undefined && isVersion5);
}

const warned = new WeakSet<object>();

/** The warning about a client of ioredis that sends commands twice, once per client. */
export function warningsAbout(client: object): readonly string[] {
  const { autoResendUnfulfilledCommands, retryDelayOnFailover } = (client as CheckedClient).options ?? {};
  const isCluster = retryDelayOnFailover !== undefined;
  const option = isCluster ? 'retryDelayOnFailover: 0' : 'autoResendUnfulfilledCommands: false';
  const resends = isCluster ? retryDelayOnFailover !== 0 : autoResendUnfulfilledCommands === true;
  if (!resends || warned.has(client)) return [];
  warned.add(client);
  return [
    'createRedisKit: the ioredis client of option `client` sends commands again after it has lost its connection, so ' +
      'that a command may run twice. Commands of the kit are excluded. Your own commands on this client are not, ' +
      `unless it is created with \`${option}\``,
  ];
}
