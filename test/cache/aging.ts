import { RESP_TYPES } from 'redis';
import type { KitOptions, LocalOptions, RedisKit } from '../../src/index.ts';
import { TestClock } from '../support/both-engines.ts';
import { kitForTest } from '../support/kits.ts';
import { type PlainClient, withPlainClient } from '../support/plain-client.ts';

/** After the magic letter and the version: when an entry was stored. */
const STORED_AT = 2;
const VARIANT_ID_LENGTH = 16;

/** A kit whose cached responses grow older when a test says so, on either engine. */
export interface AgingKit {
  readonly kit: RedisKit;
  /** For `kit.cache`: nothing is held where this process's own clock would count. */
  readonly local: false | LocalOptions;
  pass(ms: number): Promise<void>;
}

export function agingKit(url: string, options: KitOptions = {}): AgingKit {
  if (url === 'memory:') {
    const clock = new TestClock();
    const pass = async (ms: number) => {
      clock.time += ms;
    };
    return { kit: kitForTest({ ...options, url, clock } as KitOptions), local: {}, pass };
  }
  const kit = kitForTest({ ...options, url } as KitOptions);
  const pass = async (ms: number) => {
    // Behind what the kit itself has sent on its connection.
    await kit.client?.ping();
    await withPlainClient(url, (client) => aged(client, kit.prefix, ms));
  };
  return { kit, local: false, pass };
}

/** Puts everything that the cache stored under a prefix so many milliseconds into the past. */
async function aged(client: PlainClient, prefix: string, ms: number): Promise<void> {
  const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  for (const key of await client.keys(`${prefix}:cache:*`)) {
    if ((await client.type(key)) !== 'string') continue;
    const value = (await bytes.get(key)) as Buffer | null;
    const older = value && agedValue(value, ms);
    if (older) await client.set(key, older, { expiration: 'KEEPTTL' });
  }
}

/** Undefined for what does not age. */
function agedValue(value: Buffer, ms: number): Buffer | undefined {
  const kind = value.toString('latin1', 0, 1);
  if (kind === 'C') {
    value.writeUIntBE(value.readUIntBE(STORED_AT, 6) - ms, STORED_AT, 6);
    return value;
  }
  if (kind === 'V') {
    const step = VARIANT_ID_LENGTH + 6;
    for (let at = 4 + value.readUInt16BE(2) + VARIANT_ID_LENGTH; at < value.length; at += step) {
      value.writeUIntBE(value.readUIntBE(at, 6) - ms, at, 6);
    }
    return value;
  }
  const fill = /^(1:[LP]:[01]:)(\d+)(:.*)$/s.exec(value.toString('latin1'));
  return fill ? Buffer.from(`${fill[1]}${Math.max(0, Number(fill[2]) - ms)}${fill[3]}`, 'latin1') : undefined;
}
