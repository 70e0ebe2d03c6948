import express from 'express';
import { RESP_TYPES } from 'redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cachedResponse, packInfo, unpackResponse } from '../../../src/cache/http/cached-response.ts';
import { type Envelope, packEnvelope, unpackEnvelope } from '../../../src/cache/store/entry.ts';
import { redisUrl } from '../../support/context.ts';
import { eventsOf, kitForTest } from '../../support/kits.ts';
import { connectPlainClient, type PlainClient } from '../../support/plain-client.ts';
import { until } from '../../support/until.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

/** The beginning of an entry in Redis: magic, version, times and sequence. */
const HEADER = 28;
const RESPONSE = cachedResponse({
  status: 200,
  headers: [
    ['Content-Type', 'text/plain'],
    ['X-Several', ['1', '2']],
  ],
  vary: { names: 'accept', id: 'sixteen-letters-' },
  isForAll: false,
  body: Buffer.from([0, 255, 10]),
});
const LIFETIME = {
  freshMs: 1_000,
  staleWhileRevalidateMs: 20,
  staleIfErrorMs: 30,
  ageMs: 40,
  isStrict: false,
  validatableMs: 50,
};
const ENVELOPE: Envelope = {
  names: ['all', 'tag:a'],
  lifetime: LIFETIME,
  info: packInfo(RESPONSE),
  body: RESPONSE.body,
};

let client: PlainClient;

beforeAll(async () => {
  client = await connectPlainClient(redisUrl());
  await loadCacheScripts(redisUrl());
});

afterAll(() => client.destroy());

/** An app whose page is stored, and its Redis key. */
async function start() {
  const kit = kitForTest({ url: redisUrl() });
  let runs = 0;
  const app = express();
  app.get(
    '/',
    kit.cache({ ttl: '1m', local: false, singleFlight: false }),
    (_req, res) => void res.send(`body ${++runs}`),
  );
  const address = await serve(app);
  await send(address);
  expect((await send(address)).text).toBe('body 1');
  const [key = ''] = await client.keys(`${kit.prefix}:cache:{127*}`);
  return { kit, address, key };
}

function stored(key: string): Promise<Buffer | null> {
  return client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get(key) as Promise<Buffer | null>;
}

/** The same entry with another meta. */
function withMeta(value: Buffer, meta: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(meta));
  const bodyAt = HEADER + 4 + value.readUInt32BE(HEADER);
  return Buffer.concat([value.subarray(0, HEADER), length, Buffer.from(meta), value.subarray(bodyAt)]);
}

const replaced = (at: number, ...bytes: readonly number[]) => {
  return (value: Buffer) =>
    Buffer.concat([value.subarray(0, at), Buffer.from(bytes), value.subarray(at + bytes.length)]);
};
const cut = (length: number) => (value: Buffer) => value.subarray(0, length);
const meta = (text: string) => (value: Buffer) => withMeta(value, text);
const info = (text: string) => meta(`[[],0,0,0,0,${text},6]`);

describe('an unreadable cache entry', () => {
  it.each<[string, (value: Buffer) => Buffer]>([
    ['garbage', () => Buffer.from('garbage')],
    ['nothing', () => Buffer.alloc(0)],
    ['a foreign magic', replaced(0, 0x58)],
    ['version 0', replaced(1, 0)],
    ['a truncated header', cut(HEADER - 1)],
    ['no more than the header', cut(HEADER)],
    ['a truncated length', cut(HEADER + 3)],
    ['a truncated meta', cut(HEADER + 10)],
    ['a truncated body', (value) => value.subarray(0, -1)],
    ['a body that is too long', (value) => Buffer.concat([value, Buffer.from('x')])],
    ['a length beyond the end', replaced(HEADER, 255, 255, 255, 255)],
    ['a length that cuts the meta', replaced(HEADER, 0, 0, 0, 5)],
    ['meta that is no JSON', meta('[200,')],
    ['meta that is no array', meta('{"status":200}')],
    ['an empty meta', meta('[]')],
    ['names that are no list', meta('[1,0,0,0,0,[200,[],"","",0],6]')],
    ['a window that is no number', meta('[[],"x",0,0,0,[200,[],"","",0],6]')],
    ['a window below zero', meta('[[],0,-1,0,0,[200,[],"","",0],6]')],
    ['an age that is no number', meta('[[],0,0,null,0,[200,[],"","",0],6]')],
    ['a strictness that is none', meta('[[],0,0,0,2,[200,[],"","",0],6]')],
    ['a length that is not its own', meta('[[],0,0,0,0,[200,[],"","",0],7]')],
    ['what is no response', meta('[[],0,0,0,0,"value",6]')],
    ['a status that is no number', info('["200",[],"","",0]')],
    ['a status that cannot be sent', info('[99999,[],"","",0]')],
    ['a status that ends nothing', info('[101,[],"","",0]')],
    ['headers that are no list', info('[200,{},"","",0]')],
    ['a header that is no pair', info('[200,[["a"]],"","",0]')],
    ['a header whose name cannot be sent', info('[200,[["a b","c"]],"","",0]')],
    ['a header whose value cannot be sent', info('[200,[["a","b\\r\\nc: d"]],"","",0]')],
    ['a header whose value is a number', info('[200,[["a",1]],"","",0]')],
    ['a header with a nested list', info('[200,[["a",[["b"]]]],"","",0]')],
    ['vary that is no text', info('[200,[],null,"",0]')],
    ['a variant that is no text', info('[200,[],"",1,0]')],
    ['an unknown reach', info('[200,[],"","",2]')],
  ])('an unreadable entry counts as a miss, is reported once and is replaced: %s', async (_, spoil) => {
    const { kit, address, key } = await start();
    const errors = eventsOf(kit, 'error');
    const good = await stored(key);
    if (good === null) throw new Error('nothing is stored');
    await client.set(key, spoil(good), { PX: 60_000 });
    const miss = await send(address);
    expect([miss.status, miss.text]).toEqual([200, 'body 2']);
    const hit = await send(address);
    expect([hit.status, hit.text]).toEqual([200, 'body 2']);
    await client.set(key, spoil(good), { PX: 60_000 });
    expect((await send(address)).text).toBe('body 3');
    expect(errors).toMatchObject([{ feature: 'cache', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('an entry whose Redis key has another type counts as a miss and is replaced', async () => {
    const { kit, address, key } = await start();
    const errors = eventsOf(kit, 'error');
    await client.multi().del(key).hSet(key, 'a', 'b').pExpire(key, 60_000).exec();
    expect((await send(address)).text).toBe('body 2');
    expect((await send(address)).text).toBe('body 2');
    expect(errors).toMatchObject([{ feature: 'cache', error: { code: 'ERR_REDIS_KIT_CORRUPT' } }]);
  });

  it('an entry in the format of a newer redis-kit is never overwritten', async () => {
    const { kit, address, key } = await start();
    const misses = eventsOf(kit, 'cache:miss');
    const newer = Buffer.from('C\x02 whatever a later version keeps');
    await client.set(key, newer, { PX: 60_000 });
    expect((await send(address)).text).toBe('body 2');
    expect((await send(address)).text).toBe('body 3');
    await until('both misses are emitted', () => misses.length === 2);
    expect(await stored(key)).toEqual(newer);
  });
});

describe('the envelope of an entry', () => {
  it('an envelope is unpacked as it was packed, and its body is a view of the packed bytes', () => {
    const packed = packEnvelope(ENVELOPE);
    const envelope = unpackEnvelope(packed, 900, 100);
    expect(envelope).toEqual(ENVELOPE);
    expect(envelope?.body.buffer).toBe(packed.buffer);
    expect(unpackResponse(envelope?.info, ENVELOPE.body)).toEqual(RESPONSE);
  });

  it('an envelope that is truncated at any byte is unreadable', () => {
    const packed = packEnvelope(ENVELOPE);
    for (let length = 0; length < packed.length; length++) {
      expect(unpackEnvelope(packed.subarray(0, length), 0, 0)).toBeUndefined();
    }
  });
});
