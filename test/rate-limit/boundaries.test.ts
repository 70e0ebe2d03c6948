import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limitTake, type TakeReply } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import type { Mode } from './model.ts';
import { type PolicySpec, SideBySide } from './side-by-side.ts';

const S = 1_000;
const HOUR = 3_600 * S;

let both: BothEngines;

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(async () => {
  await both.stop();
});

/** One policy, for which the replies of the script, the in-memory implementation and the model must be equal. */
function sideBySide(kind: PolicySpec['kind'], ...numbers: PolicySpec['numbers']) {
  const subject = new SideBySide(both, [{ kind, numbers }]);
  const call = async (mode: Mode, cost: number, tighter = 0): Promise<TakeReply> => {
    const [reply] = await subject.take(mode, cost, [0], tighter);
    if (reply === undefined) throw new Error('no reply');
    return reply;
  };
  return {
    subject,
    key: subject.keyOf(0),
    call,
    take: (cost: number) => call('take', cost),
    pass: (ms: number) => subject.turnClock(ms),
    refund: ({ stamp, position }: TakeReply, units: number) =>
      subject.refund({ units, charges: [{ policy: 0, stamp, position }] }),
  };
}

describe('the boundaries of a sliding window', () => {
  it('a unit of a sliding window counts until the last millisecond of the window and not in the next millisecond', async () => {
    const { take, pass } = sideBySide('window', 1, 100 * S, 1);
    expect(await take(1)).toMatchObject({ allowed: true, used: 1, waitMs: 100 * S, resetMs: 100 * S });
    pass(100 * S - 1);
    expect(await take(1)).toMatchObject({ allowed: false, used: 1, waitMs: 1, resetMs: 1 });
    pass(1);
    expect(await take(1)).toMatchObject({ allowed: true, used: 1 });
  });

  it('a sliding window with a limit of 65,537 allows 65,537 units in one millisecond and refuses one more', async () => {
    const { subject, take, pass } = sideBySide('window', 65_537, 100 * S, 1);
    await subject.hit(65_536);
    expect(await take(1)).toMatchObject({ allowed: true, used: 65_537 });
    expect(await take(1)).toMatchObject({ allowed: false, used: 65_537, waitMs: 100 * S });
    pass(100 * S - 1);
    expect(await take(1)).toMatchObject({ allowed: false, used: 65_537 });
    pass(1);
    expect(await take(65_537)).toMatchObject({ allowed: true, used: 65_537 });
  });

  it('a sliding window counts 500,000 units exactly, and the oldest units come back first', async () => {
    const { take, pass, refund } = sideBySide('window', 500_000, 100 * S, 1);
    await take(200_000);
    pass(1);
    const second = await take(299_999);
    pass(1);
    expect(await take(2)).toMatchObject({ allowed: false, used: 499_999, waitMs: 100 * S - 2 });
    expect(await take(200_002)).toMatchObject({ allowed: false, waitMs: 100 * S - 1 });
    await refund(second, 299_999);
    expect(await take(300_000)).toMatchObject({ allowed: true, used: 500_000 });
  });

  it('a sliding window counts at most 4,294,967,295 penalty units, and allows the full limit once they have expired', async () => {
    const { call, take, pass } = sideBySide('window', 5, 100 * S, 1);
    for (let times = 0; times < 5; times++) await call('force', 1_000_000_000);
    expect(await take(1)).toMatchObject({ allowed: false, used: 4_294_967_295, waitMs: 100 * S });
    pass(100 * S);
    expect(await take(5)).toMatchObject({ allowed: true, used: 5 });
  }, 60_000);

  it('a unit comes back when its window has passed, or later by less than the resolution', async () => {
    const { take, pass } = sideBySide('window', 1, 100 * S, 7 * S);
    const { waitMs } = await take(1);
    expect(waitMs).toBeGreaterThanOrEqual(100 * S);
    expect(waitMs).toBeLessThan(107 * S);
    pass(waitMs - 1);
    expect(await take(1)).toMatchObject({ allowed: false, waitMs: 1 });
    pass(1);
    expect(await take(1)).toMatchObject({ allowed: true });
  });

  it('a charge for a refused request replaces the oldest units and never raises the count of a window above the limit', async () => {
    const { call, pass } = sideBySide('window', 5, 100 * S, 1);
    await call('count', 3);
    pass(10 * S);
    await call('count', 2);
    pass(10 * S);
    expect(await call('count', 1)).toMatchObject({ allowed: false, used: 5, waitMs: 80 * S });
    pass(80 * S);
    expect(await call('peek', 1)).toMatchObject({ allowed: true, used: 3 });
    expect(await call('count', 6)).toMatchObject({ allowed: false, used: 5, waitMs: -1, resetMs: 100 * S });
  });

  it('a charge for a refused request with a low limit does not lower the count for a call with a higher limit', async () => {
    const { call, pass } = sideBySide('window', 100, 100 * S, 1);
    await call('count', 100);
    pass(1);
    expect(await call('count', 1, 99)).toMatchObject({ allowed: false, used: 100 });
    expect(await call('count', 1)).toMatchObject({ allowed: false, used: 100 });
  });
});

describe('the boundaries of a token bucket', () => {
  it('a token comes back at the first whole millisecond after its refill', async () => {
    const { take, pass } = sideBySide('bucket', 2, 100 * S, 3);
    await take(2);
    expect(await take(1)).toMatchObject({ allowed: false, used: 2, waitMs: 33_334, resetMs: 33_334 });
    pass(33_333);
    expect(await take(1)).toMatchObject({ allowed: false, waitMs: 1 });
    pass(1);
    expect(await take(1)).toMatchObject({ allowed: true, used: 2, waitMs: 33_333 });
  });

  it('a bucket that needs two hours to refill is stored for two hours', async () => {
    const { take, pass, call, key } = sideBySide('bucket', 2, HOUR, 1);
    await take(2);
    expect(both.keyspace.ttls.get(key)).toBe(2 * HOUR);
    const ttl = await both.client.pTTL(key);
    expect(ttl).toBeGreaterThan(2 * HOUR - 10 * S);
    expect(ttl).toBeLessThanOrEqual(2 * HOUR);
    pass(2 * HOUR - 1);
    expect(await call('peek', 2)).toMatchObject({ allowed: false, used: 1, waitMs: 1 });
    pass(1);
    expect(await call('peek', 2)).toMatchObject({ allowed: true, used: 0, resetMs: 0 });
  });

  it('a bucket never holds more tokens than its capacity after a long pause or a late refund', async () => {
    const { take, pass, refund } = sideBySide('bucket', 3, 100 * S, 1);
    const first = await take(2);
    pass(150 * S);
    await refund(first, 2);
    expect(await take(4)).toMatchObject({ allowed: false, used: 0, waitMs: -1 });
    expect(await take(3)).toMatchObject({ allowed: true, used: 3 });
    pass(100 * 365 * 86_400);
    expect(await take(3)).toMatchObject({ allowed: true, used: 3 });
    expect(await take(1)).toMatchObject({ allowed: false, used: 3 });
  });

  it('a charge for a refused request empties a bucket and does not overdraw the bucket', async () => {
    const { call } = sideBySide('bucket', 3, 100 * S, 1);
    await call('count', 2);
    expect(await call('count', 2)).toMatchObject({ allowed: false, used: 3, waitMs: 200 * S });
    expect(await call('count', 2)).toMatchObject({ allowed: false, used: 3, waitMs: 200 * S });
    expect(await call('force', 2)).toMatchObject({ allowed: false, used: 5 });
    expect(await call('count', 2)).toMatchObject({ allowed: false, used: 5 });
  });

  it('a bucket owes the same number of tokens after the refill interval changes', async () => {
    const { take, pass, key } = sideBySide('bucket', 2, 100 * S, 1);
    await take(2);
    pass(50 * S);
    const policies = [{ algorithm: tokenBucket, numbers: [2, 200 * S, 1] as const }];
    for (const engine of [both.memory, both.redis]) {
      const [reply] = await engine.run(limitTake(policies), [key], { mode: 'take', costs: [1], policies });
      expect(reply).toMatchObject({ allowed: false, used: 2, waitMs: 150 * S, resetMs: 150 * S });
    }
  });
});

describe.each([
  ['a sliding window', 'window', [5, 100 * S, 1]],
  ['a token bucket', 'bucket', [5, 100 * S, 1]],
] as const)('%s', (_, kind, numbers) => {
  it('a cost of 0 is allowed and takes no unit, even when no quota is left', async () => {
    const { take } = sideBySide(kind, ...numbers);
    expect(await take(0)).toMatchObject({ allowed: true, used: 0, stamp: 0 });
    await take(5);
    expect(await take(0)).toMatchObject({ allowed: true, used: 5, stamp: 0 });
  });

  it('a cost equal to the limit is allowed, and a cost above the limit is never allowed', async () => {
    const { take } = sideBySide(kind, ...numbers);
    expect(await take(6)).toMatchObject({ allowed: false, used: 0, waitMs: -1, resetMs: 0, stamp: 0 });
    expect(await take(5)).toMatchObject({ allowed: true, used: 5 });
    expect(await take(6)).toMatchObject({ allowed: false, used: 5, waitMs: -1 });
  });

  it('a limit of 0 refuses a cost of 1 in the modes take, peek and count', async () => {
    const { call } = sideBySide(kind, ...numbers);
    for (const mode of ['take', 'peek', 'count'] as const) {
      expect(await call(mode, 1, 5)).toMatchObject({ allowed: false, used: 0, waitMs: -1 });
    }
    expect(await call('take', 5)).toMatchObject({ allowed: true, used: 5 });
  });

  it('a limit below the current count refuses a request until enough units have come back', async () => {
    const { call, pass } = sideBySide(kind, ...numbers);
    await call('take', 2);
    pass(1);
    await call('take', 3);
    const { waitMs, used, resetMs } = await call('take', 1, 3);
    expect(used).toBe(5);
    expect(waitMs).toBe(kind === 'window' ? 100 * S : 400 * S - 1);
    expect(resetMs).toBe(waitMs);
    pass(waitMs - 1);
    expect(await call('take', 1, 3)).toMatchObject({ allowed: false, waitMs: 1 });
    pass(1);
    expect(await call('take', 1, 3)).toMatchObject({ allowed: true });
  });

  it('a clock that goes back neither frees units nor removes quota', async () => {
    const { take, pass } = sideBySide(kind, ...numbers);
    await take(5);
    pass(-50 * S);
    expect(await take(1)).toMatchObject({ allowed: false, used: 5, waitMs: 150 * S });
    pass(50 * S);
    expect(await take(1)).toMatchObject({ allowed: false, used: 5, waitMs: 100 * S });
    pass(100 * S);
    expect(await take(1)).toMatchObject({ allowed: true });
  });

  it('a refund of an expired charge returns no unit', async () => {
    const { take, pass, call, refund } = sideBySide(kind, ...numbers);
    const charge = await take(2);
    pass(200 * S);
    await take(3);
    await refund(charge, 2);
    expect(await call('peek', 1)).toMatchObject({ used: 3 });
  });
});
