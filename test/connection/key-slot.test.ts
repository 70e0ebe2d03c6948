import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { keySlot } from '../../src/connection/key-slot.ts';
import { describeWithServers } from '../support/context.ts';
import { connectPlainClient } from '../support/plain-client.ts';
import { startRedis } from '../support/servers.ts';

const CORNERS = [
  '',
  '{}',
  '{}a',
  'a{}',
  '{}{a}',
  '{a}',
  '{{a}}',
  '{a}{b}',
  'x{a}y',
  'x{a',
  'x}a{',
  '}{',
  '{',
  '}',
  'foo{{bar}}zap',
  'foo{bar}{zap}',
  'Grüße',
  '{Grüße}☃',
  '🎉{🎉}',
  '\0{\0}',
];

describeWithServers('keySlot()', () => {
  it('keySlot() computes the same slot as Redis Cluster', async () => {
    const server = await startRedis({ args: ['--cluster-enabled', 'yes'] });
    onTestFinished(() => server.stop());
    const client = await connectPlainClient(server.url);
    onTestFinished(() => client.destroy());
    const keys = new Keys('t-slot');
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.constantFrom('{', '}', '{}', '{{', '}}'),
    );
    const random = fc.sample(
      fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
      3_000,
    );
    const all = [...CORNERS, ...random, ...random.map((id) => keys.lock(id).lock)];
    const slots = await Promise.all(all.map((key) => client.sendCommand(['CLUSTER', 'KEYSLOT', key])));
    expect(all.map((key) => ({ key, slot: keySlot(key) }))).toEqual(
      all.map((key, index) => ({ key, slot: Number(slots[index]) })),
    );
  });

  it('all Redis keys of one id have the same Cluster slot', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (id) => {
        const keys = new Keys('t-slot');
        const { lock, line, fence } = keys.lock(id);
        expect([keySlot(line), keySlot(fence)]).toEqual([keySlot(lock), keySlot(lock)]);
      }),
    );
  });
});
