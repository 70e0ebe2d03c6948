import type { FailurePolicies } from '../base/failure-policies.ts';
import type { Json } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import type { Publisher } from '../engine/port.ts';
import type { ChannelPattern } from '../engine/pub-sub.ts';
import { publish } from './publish.ts';
import { type DataListener, type SubscribeDeps, subscribe } from './subscribe.ts';

export interface ChannelMethods {
  /**
   * Sends data to the listeners of a channel in all processes, as JSON of at most 1 MiB. The name of a channel is any
   * string of 1 to 512 bytes. Rejects with a ConnectionError if nothing was sent, with a StoreError if the data may have
   * been sent, with a ConfigError for a wrong argument, and with `ERR_REDIS_KIT_TOO_LARGE`.
   */
  publish<Data = Json>(channel: string, data: Data): Promise<void>;
  /**
   * Calls the listener with the data and the name of the channel for each message of a channel, or of all channels that
   * match a pattern: `*` is any text, `?` one byte, `[a-c]` one of these, and `\` takes the special meaning away.
   * Resolves to an unsubscribe function when all messages arrive that are published from now on. Rejects with a
   * ConnectionError after 5 s without Redis, and with a StoreError if Redis refuses the subscription. Messages that are
   * published while the subscriber's connection is lost do not arrive.
   */
  subscribe(channel: string | ChannelPattern, listener: DataListener): Promise<() => Promise<void>>;
}

interface ChannelDeps extends Omit<SubscribeDeps, 'keys'> {
  readonly engine: Publisher;
  readonly failurePolicies: FailurePolicies;
}

export function channelFeature(kit: ChannelDeps) {
  const used = () => kit.failurePolicies.record('channel', 'reject');
  return (keys: Keys): ChannelMethods => ({
    async publish(channel: unknown, data: unknown) {
      used();
      await publish(channel, data, { ...kit, keys });
    },
    async subscribe(channel: unknown, listener: unknown) {
      used();
      return subscribe(channel, listener, { ...kit, keys });
    },
  });
}
