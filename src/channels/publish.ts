import { checkChannelName } from '../base/channel-name.ts';
import { ConfigError } from '../base/errors.ts';
import { jsonOf } from '../base/json.ts';
import type { Keys } from '../base/keys.ts';
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
  const bytes = Buffer.byteLength(message);
  if (bytes > MAX_DATA_BYTES) {
    throw new ConfigError(
      `kit.publish: the data has ${bytes} bytes as JSON, and the most are ${MAX_DATA_BYTES}; store it, and publish its id`,
    );
  }
  await engine.publish(keys.channel(channel), message);
}
