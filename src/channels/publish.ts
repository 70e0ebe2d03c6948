import { checkChannelName } from '../base/channel-name.ts';
import { jsonOf } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
import { checkBytes } from '../base/size-options.ts';
import type { Publisher } from '../engine/port.ts';

/** Redis disconnects a subscriber for which 32 MB are waiting, by default. */
const MAX_DATA_BYTES = 2 ** 20;

/** Publishes the data as JSON. Throws a ConfigError for a wrong argument. */
export async function publish(
  channel: unknown,
  data: unknown,
  { engine, keys }: { readonly engine: Publisher; readonly keys: Keys },
): Promise<void> {
  checkChannelName('kit.publish: the channel', channel);
  const message = jsonOf('kit.publish: the data', data);
  checkBytes('kit.publish: the data', message, MAX_DATA_BYTES, 'store it, and publish its id');
  await engine.publish(keys.channel(channel), message);
}
