import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cacheFillEnd, cacheFillRenew } from '../../src/cache/store/operations/fill-lease.ts';
import { cacheEnterPolicy } from '../../src/cache/store/operations/policy-index.ts';
import { cacheRead } from '../../src/cache/store/operations/read.ts';
import { cachePurge, cacheVersions } from '../../src/cache/store/operations/versions.ts';
import { cacheWrite } from '../../src/cache/store/operations/write.ts';
import { concurrencyAcquire } from '../../src/concurrency/operations/acquire.ts';
import { concurrencyRelease } from '../../src/concurrency/operations/release.ts';
import { concurrencyRenew } from '../../src/concurrency/operations/renew.ts';
import { documentRead } from '../../src/documents/operations/read.ts';
import { ANY_REVISION, documentWrite } from '../../src/documents/operations/write.ts';
import { packDocument } from '../../src/documents/stored-document.ts';
import { idempotencyBegin } from '../../src/idempotency/operations/begin.ts';
import { idempotencyComplete } from '../../src/idempotency/operations/complete.ts';
import { idempotencyDiscard } from '../../src/idempotency/operations/discard.ts';
import { idempotencyRenew } from '../../src/idempotency/operations/renew.ts';
import { lockAcquire } from '../../src/lock/operations/acquire.ts';
import { lockExtend } from '../../src/lock/operations/extend.ts';
import { lockForceRelease } from '../../src/lock/operations/force-release.ts';
import { lockInspect } from '../../src/lock/operations/inspect.ts';
import { lockRelease } from '../../src/lock/operations/release.ts';
import { logAppend } from '../../src/log/operations/append.ts';
import { logClear } from '../../src/log/operations/clear.ts';
import { logRead } from '../../src/log/operations/read.ts';
import { membersHas, membersList, membersSize } from '../../src/members/operations/read.ts';
import { membersAdd, membersRemove } from '../../src/members/operations/write.ts';
import { fixedWindow } from '../../src/rate-limit/operations/fixed-window.ts';
import { identityBlock } from '../../src/rate-limit/operations/identity-block.ts';
import type { PolicyArgs } from '../../src/rate-limit/operations/policies-script.ts';
import { limitRefund } from '../../src/rate-limit/operations/refund.ts';
import { limitReserve } from '../../src/rate-limit/operations/reserve.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { limitTake } from '../../src/rate-limit/operations/take.ts';
import { tokenBucket } from '../../src/rate-limit/operations/token-bucket.ts';
import { limitWait } from '../../src/rate-limit/operations/wait.ts';
import { type DataFormat, PLAIN, packData, SEALED } from '../../src/session/operations/data.ts';
import { sessionDestroy } from '../../src/session/operations/destroy.ts';
import { lineStart, textOf } from '../../src/session/operations/lines.ts';
import { sessionRead } from '../../src/session/operations/read.ts';
import { userSessionsAdd } from '../../src/session/operations/user-sessions-add.ts';
import { userSessionsList } from '../../src/session/operations/user-sessions-list.ts';
import { KEEP_OWNER, sessionWrite } from '../../src/session/operations/write.ts';
import { stateIncrement } from '../../src/state/operations/increment.ts';
import { stateAll, stateGet } from '../../src/state/operations/read.ts';
import { stateDelete, stateSet } from '../../src/state/operations/write.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { S, type Step, spoil, turnClock, World } from './world.ts';

let both: BothEngines;

const VARIANTS = ['variant-------01', 'variant-------02', 'variant-------03'];

/** Lines of stored objects: plain and sealed, short and long, few and many. */
const lineChange = fc.record({
  start: fc.oneof(
    fc
      .constantFrom('', 'a', 'b', 'ab', '1', '__proto__', 'a"b', 'a\\', 'a":1,', 'ä\u{1f600}\ud800')
      .map(lineStart),
    fc.nat(40).map((number) => lineStart(`key ${number}`)),
  ),
  value: fc.oneof(
    fc.constant(''),
    fc.jsonValue({ maxDepth: 1 }).map((value) => JSON.stringify(value)),
    fc.base64String({ maxLength: 60 }).map((text) => `"${text.replaceAll('=', '')}"`),
  ),
});
const lineChanges = (maxLength: number) =>
  fc.uniqueArray(lineChange, { selector: ({ start }) => start, maxLength });
const dataFormat = fc.constantFrom<DataFormat>(PLAIN, PLAIN, SEALED);

const sessionChanges = fc.record({
  format: dataFormat,
  meta: lineChanges(3),
  content: fc.oneof(lineChanges(4), lineChanges(40)),
});

const sessionData = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc.tuple(dataFormat, fc.nat(1_000), lineChanges(3), lineChanges(30)).map(([format, size, ...lines]) => {
    const [meta = '', content = ''] = lines.map((each) => textOf(each.filter(({ value }) => value !== '')));
    return packData(format, size, { meta, content });
  }),
  // As an earlier version of the kit has stored it.
  fc
    .dictionary(fc.string(), fc.jsonValue({ maxDepth: 1 }))
    .map((data) => packData(PLAIN, 0, { meta: '{"cookie":{}}', content: JSON.stringify(data) })),
);

/** In `script/test --full`, each property is checked four times as often. */
function runs(numRuns: number): number {
  return process.env.REDIS_KIT_TESTS === 'full' ? 4 * numRuns : numRuns;
}

function check(steps: fc.Arbitrary<Step>, numRuns: number, lastStep?: Step): Promise<void> {
  return fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 40 }), async (run) => {
      const world = new World(both);
      for (const step of run) await step(world);
      await lastStep?.(world);
    }),
    { numRuns: runs(numRuns), endOnFailure: true },
  );
}

beforeAll(async () => {
  both = await startBothEngines();
});

afterAll(async () => {
  await both.stop();
});

describe('the script and the in-memory implementation of an operation', () => {
  const policies: readonly PolicyArgs[] = [
    { algorithm: slidingWindow, numbers: [5, 1_000 * S, 1] },
    { algorithm: slidingWindow, numbers: [200, 1_000 * S, 7_000] },
    { algorithm: slidingWindow, numbers: [3, 100 * S, 100 * S] },
    { algorithm: tokenBucket, numbers: [5, 1_000 * S, 3] },
    { algorithm: tokenBucket, numbers: [200_000, 100 * S, 7] },
    { algorithm: identityBlock, numbers: [0, 500 * S, 0] },
  ];
  const keyOf = (world: World, policy: number) => world.keys.rate('id', `p${policy}`);
  const some = fc.uniqueArray(fc.nat(policies.length - 1), { minLength: 1, maxLength: 3 });
  const cost = fc.oneof(
    fc.constant(1),
    fc.integer({ min: 0, max: 6 }),
    fc.constantFrom(5, 6, 200, 201, 65_535, 65_536, 200_000),
  );

  const take = fc
    .tuple(
      fc.constantFrom('take' as const, 'take' as const, 'peek' as const, 'force' as const, 'count' as const),
      some,
      cost,
      fc.nat(3),
    )
    .map(
      ([mode, which, units, tighter]): Step =>
        async (world) => {
          const chosen = which.map((index): PolicyArgs => {
            const { algorithm, numbers } = policies[index] as PolicyArgs;
            return { algorithm, numbers: [Math.max(1, numbers[0] - tighter), numbers[1], numbers[2]] };
          });
          const keys = which.map((policy) => keyOf(world, policy));
          const replies = await world.compare(limitTake(chosen), keys, {
            mode,
            costs: [units],
            policies: chosen,
          });
          which.forEach((policy, index) => {
            const { stamp = 0, position = 0 } = replies?.[index] ?? {};
            if (stamp > 0) world.charges.push({ policy, stamp, position, units });
          });
        },
    );

  /** Requests that wait, and batches. */
  const takeAhead = fc
    .record({ some, cost, waits: fc.boolean(), ms: fc.constantFrom(0, 1, 50 * S, 3_000 * S) })
    .map(
      ({ some: which, cost: units, waits, ms }): Step =>
        async (world) => {
          const chosen = which.map((index) => policies[index] as PolicyArgs);
          const keys = which.map((policy) => keyOf(world, policy));
          const wait = { cost: units, mostMs: ms, policies: chosen };
          const reserve = { least: units, most: units + 9, holdMs: ms + 1, policies: chosen };
          const taken = waits
            ? { units, replies: await world.compare(limitWait(chosen), keys, wait) }
            : await world.compare(limitReserve(chosen), keys, reserve);
          which.forEach((policy, index) => {
            const { stamp = 0, position = 0 } = taken?.replies?.[index] ?? {};
            if (stamp > 0) world.charges.push({ policy, stamp, position, units: taken.units });
          });
        },
    );

  const refund = fc.nat(50).map(
    (nth): Step =>
      async (world) => {
        const grant = world.charges[nth % Math.max(1, world.charges.length)];
        if (grant === undefined) return;
        const { policy, ...charge } = grant;
        const refunded = [{ ...(policies[policy] as PolicyArgs), ...charge }];
        await world.compare(limitRefund(refunded), [keyOf(world, policy)], { policies: refunded });
      },
  );

  const changedBucket = fc.constantFrom(777 * S, 999_999, 1_000 * S, 86_400_000).map(
    (interval): Step =>
      async (world) => {
        const args = {
          mode: 'take' as const,
          costs: [1],
          policies: [{ algorithm: tokenBucket, numbers: [5, interval, 3] as const }],
        };
        await world.compare(limitTake(args.policies), [keyOf(world, 3)], args);
      },
  );

  it('script and in-memory implementation agree for rate limits', async () => {
    const spoiled = spoil((world) => policies.map((_, index) => keyOf(world, index)));
    await check(
      fc.oneof(
        { weight: 8, arbitrary: take },
        { weight: 4, arbitrary: takeAhead },
        { weight: 4, arbitrary: turnClock },
        { weight: 2, arbitrary: refund },
        { weight: 1, arbitrary: changedBucket },
        { weight: 1, arbitrary: spoiled },
      ),
      75,
    );
  });

  it('script and in-memory implementation agree for rate limit logs longer than one chunk', async () => {
    const policy: PolicyArgs = { algorithm: slidingWindow, numbers: [2_000, 1_000 * S, 1] };
    const world = new World(both);
    const keys = [keyOf(world, 9)];
    for (let turn = 0; turn < 1_200; turn++) {
      both.clock.time += turn % 400 === 399 ? 900 * S : S;
      const cost = turn % 97 === 0 ? 1_900 : 1;
      const args = { mode: 'take' as const, costs: [cost], policies: [policy] };
      const [reply] = await world.compare(limitTake(args.policies), keys, args);
      const stamp = reply?.stamp ?? 0;
      if (turn % 13 === 0 && stamp > 0) {
        await world.compare(limitRefund([policy]), keys, {
          policies: [{ ...policy, stamp, position: 0, units: cost }],
        });
      }
    }
  });

  it('script and in-memory implementation agree for the express-rate-limit store', async () => {
    const key = (world: World) => [world.keys.rate('id', 'fixed')];
    const count = fc.tuple(fc.integer({ min: -2, max: 3 }), fc.constantFrom(100 * S, 1_000 * S)).map(
      ([delta, window]): Step =>
        async (world) =>
          void (await world.compare(fixedWindow, key(world), { delta, window })),
    );
    await check(fc.oneof({ weight: 4, arbitrary: fc.oneof(count, turnClock) }, spoil(key)), 50);
  });

  it('script and in-memory implementation agree for sessions', async () => {
    const key = (world: World) => [world.keys.session('id')];
    const read = fc
      .tuple(
        fc.constantFrom(0, 1, 50 * S, 500 * S),
        fc.constantFrom(0, 1_000 * S, 9_999 * S),
        fc.constantFrom(true, true, false),
      )
      .map(
        ([touchAfter, idle, moves]): Step =>
          async (world) =>
            void (await world.compare(sessionRead, key(world), { touchAfter, idle, moves })),
      );
    const write = fc
      .record({
        mode: fc.constantFrom('create' as const, 'update' as const, 'update' as const),
        idle: fc.constantFrom(100 * S, 1_000 * S, 60_000 * S),
        idleBefore: fc.constantFrom(undefined, 100 * S, 1_000 * S),
        absolute: fc.constantFrom(0, 1_500 * S, 100_000 * S),
        touchAfter: fc.constant(10 * S),
        maxBytes: fc.constantFrom(60, 300, 100_000, 100_000),
        owner: fc.constantFrom('', 'user', KEEP_OWNER),
        data: sessionData,
        revision: fc.nat(3),
        changes: fc.option(sessionChanges, { nil: undefined }),
      })
      .map(
        (args): Step =>
          async (world) =>
            void (await world.compare(sessionWrite, key(world), args)),
      );
    const cut = fc.tuple(fc.integer({ min: 37, max: 160 }), fc.boolean()).map(
      ([length, isClosed]): Step =>
        async (world) => {
          const [stored = ''] = key(world);
          const value = world.both.keyspace.get(stored)?.subarray(0, length);
          if (value !== undefined)
            await world.put(stored, isClosed ? Buffer.concat([value, Buffer.from('}')]) : value);
        },
    );
    const destroy = fc.constantFrom(undefined, 'user', 'other').map(
      (owner): Step =>
        async (world) =>
          void (await world.compare(sessionDestroy, key(world), { owner })),
    );
    await check(
      fc.oneof(
        { weight: 8, arbitrary: fc.oneof(read, write, turnClock) },
        { weight: 1, arbitrary: fc.oneof(destroy, spoil(key), cut) },
      ),
      150,
    );
  });

  it('script and in-memory implementation agree for changes of stored sessions', async () => {
    const key = (world: World) => [world.keys.session('id')];
    const common = { idle: 60_000 * S, absolute: 0, touchAfter: 10 * S, owner: '', revision: 0 };
    const run = fc.record({
      format: dataFormat,
      few: fc.tuple(lineChanges(3), lineChanges(30)),
      many: fc.array(fc.tuple(lineChanges(2), fc.oneof(lineChanges(3), lineChanges(40)))),
      margin: fc.constantFrom(0, 0, 1, 5, 1_000),
    });
    await fc.assert(
      fc.asyncProperty(run, async ({ format, few, many, margin }) => {
        const world = new World(both);
        const [meta, content] = few.map((lines) => textOf(lines.filter(({ value }) => value !== '')));
        const size = 4 + Buffer.byteLength(`${meta}${content}`);
        const data = packData(format, size, { meta: meta ?? '', content: content ?? '' });
        const created = { ...common, mode: 'create' as const, maxBytes: 0, data };
        await world.compare(sessionWrite, key(world), created);
        for (const [ofMeta, ofContent] of many) {
          await world.compare(sessionWrite, key(world), {
            ...{ ...common, mode: 'update', maxBytes: size + margin, data: Buffer.alloc(0) },
            changes: { format, meta: ofMeta, content: ofContent },
          });
        }
      }),
      { numRuns: runs(50), endOnFailure: true },
    );
  });

  it("script and in-memory implementation agree for users' session indexes", async () => {
    const key = (world: World) => [world.keys.userSessions('ann')];
    const member = fc.constantFrom('1a', '1b', '2a', '3a', '4a');
    const add = fc
      .tuple(
        member,
        fc.constantFrom(100 * S, 1_000 * S, 1_000 * S + 1),
        fc.nat(3),
        fc.constantFrom('evict-oldest' as const, 'reject' as const),
        fc.constantFrom('', '', '2a'),
      )
      .map(
        ([name, life, limit, onExceed, replaces]): Step =>
          async (world) => {
            const args = { member: name, until: world.both.clock.time + life, limit, onExceed, replaces };
            await world.compare(userSessionsAdd, key(world), args);
          },
      );
    const list = fc.array(member, { maxLength: 2 }).map(
      (forget): Step =>
        async (world) =>
          void (await world.compare(userSessionsList, key(world), { forget })),
    );
    await check(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(add, list, turnClock) },
        { weight: 1, arbitrary: spoil(key, false) },
      ),
      75,
    );
  });

  it('script and in-memory implementation agree for stored responses, variants and fills', async () => {
    const keys = (world: World, variant: string) => {
      const { entry, fill, variant: variantKey } = world.keys.cache('id');
      return variant === '' ? [entry, fill] : [entry, fill, variantKey(variant)];
    };
    const all = (world: World) => [
      ...keys(world, ''),
      ...VARIANTS.flatMap((each) => keys(world, each)[2] ?? []),
    ];
    const span = fc.constantFrom(100 * S, 1_000 * S);
    const names = fc.constantFrom('', 'accept', 'accept,accept-language');
    const token = fc.constantFrom('', 'ann', 'bob');
    const sequence = fc.constantFrom(0, 5, 2 ** 50 + 1);
    const variant = fc.constantFrom(...VARIANTS);
    const notice = { channel: 'outside-channel', message: 'm' };
    const read = fc.tuple(names, variant, sequence, token, span).map(
      ([vary, which, minSequence, owner, lease]): Step =>
        async (world) => {
          const args = { names: vary, minSequence, token: owner, lease };
          await world.compare(cacheRead, keys(world, vary === '' ? '' : which), args);
        },
    );
    const write = fc
      .tuple(
        names,
        variant,
        sequence,
        token,
        span,
        span,
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom(1, 2),
      )
      .map(
        ([vary, which, made, owner, fresh, stale, payload, maxVariants]): Step =>
          async (world) => {
            await world.compare(cacheWrite, keys(world, vary === '' ? '' : which), {
              ...{ ...notice, token: owner, fresh, keep: fresh + stale, sequence: made, names: vary },
              ...{ variant: vary === '' ? '' : which, maxVariants, payload: Buffer.from(payload) },
            });
          },
      );
    const renew = fc.tuple(token, span).map(
      ([owner, lease]): Step =>
        async (world) =>
          void (await world.compare(cacheFillRenew, [world.keys.cache('id').fill], { token: owner, lease })),
    );
    const end = fc.tuple(token, fc.constantFrom(0, 100 * S)).map(
      ([owner, hitForMissMs]): Step =>
        async (world) => {
          const args = { ...notice, token: owner, hitForMissMs };
          await world.compare(cacheFillEnd, [world.keys.cache('id').fill], args);
        },
    );
    await check(
      fc.oneof({ weight: 6, arbitrary: fc.oneof(read, write, renew, end, turnClock) }, spoil(all)),
      125,
    );
  });

  it('script and in-memory implementation agree for the invalidation of stored responses', async () => {
    const keys = (world: World, names: readonly string[]) => [
      world.keys.cacheVersion('sequence'),
      ...names.map((name) => world.keys.cacheVersion(name)),
    ];
    const names = fc.subarray(['all', 'tag:a', 'tag:b'], { minLength: 1 });
    const read = fc.tuple(names, fc.constantFrom(100 * S, 10_000 * S)).map(
      ([some, ttl]): Step =>
        async (world) =>
          void (await world.compare(cacheVersions, keys(world, some), { ttl })),
    );
    const purge = fc.tuple(names, fc.boolean()).map(
      ([some, soft]): Step =>
        async (world) => {
          const args = { soft, channel: 'outside-channel', scope: '', names: [] };
          await world.compare(cachePurge, keys(world, some), args);
        },
    );
    const all = (world: World) => keys(world, ['all', 'tag:a', 'tag:b']);
    await check(fc.oneof({ weight: 6, arbitrary: fc.oneof(read, purge, turnClock) }, spoil(all)), 75);
  });

  it('script and in-memory implementation agree for cache policies with maxEntries', async () => {
    const key = (world: World) => [world.keys.cachePolicy('pages')];
    const note = fc.tuple(
      fc.constantFrom('a', 'b', 'c', 'd'),
      fc.constantFrom(100 * S, 1_000 * S),
      fc.constantFrom(1, 3),
    );
    const bound = note.map(
      ([member, lifeMs, maxEntries]): Step =>
        async (world) =>
          void (await world.compare(cacheEnterPolicy, key(world), { member, lifeMs, maxEntries })),
    );
    await check(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(bound, turnClock) },
        { weight: 1, arbitrary: spoil(key, false) },
      ),
      50,
    );
  });

  /** Keys without a TTL contain the word that the guard of keys looks for. */
  const lifetime = fc.constantFrom(100 * S, 1_000 * S, null);

  it('script and in-memory implementation agree for the fields of a scope', async () => {
    const key = (world: World) => [world.keys.state('user', 'forever')];
    const field = fc.constantFrom('a', 'b', '', '\u{1f600}', '__proto__', 'n');
    const json = fc.constantFrom(
      '1',
      '-5',
      '9007199254740991',
      '1e21',
      '0.5',
      '"ä\u{1f600}"',
      '{"a":[]}',
      'no JSON',
    );
    const bounds = fc.record({ ttl: lifetime, maxFields: fc.constantFrom(1, 3, 1_000) });
    const touch = fc.constantFrom(0, 0, 100 * S, 2_000 * S);
    const get = fc.record({ touch, field }).map(
      (args): Step =>
        async (world) =>
          void (await world.compare(stateGet, key(world), args)),
    );
    const all = touch.map(
      (ms): Step =>
        async (world) =>
          void (await world.compare(stateAll, key(world), { touch: ms })),
    );
    const set = fc
      .tuple(bounds, fc.uniqueArray(fc.tuple(field, json), { selector: ([name]) => name, minLength: 1 }))
      .map(
        ([of, values]): Step =>
          async (world) =>
            void (await world.compare(stateSet, key(world), { ...of, values })),
      );
    const by = fc.constantFrom(1, -1, 0, 5, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER);
    const increment = fc.tuple(bounds, field, by).map(
      ([of, name, number]): Step =>
        async (world) =>
          void (await world.compare(stateIncrement, key(world), { ...of, field: name, by: number })),
    );
    const remove = fc.tuple(lifetime, fc.array(field, { maxLength: 3 })).map(
      ([ttl, fields]): Step =>
        async (world) =>
          void (await world.compare(stateDelete, key(world), { ttl, fields })),
    );
    await check(
      fc.oneof(
        { weight: 8, arbitrary: fc.oneof(get, all, set, increment, increment, remove) },
        { weight: 1, arbitrary: spoil(key, false) },
      ),
      75,
    );
  });

  it('script and in-memory implementation agree for documents', async () => {
    const key = (world: World) => [world.keys.document('forever', 'id')];
    const revision = fc.constantFrom('one', 'two', 'a-longer-revision');
    const read: Step = async (world) => void (await world.compare(documentRead, key(world), undefined));
    const write = fc
      .tuple(
        fc.oneof(revision, fc.constantFrom('', ANY_REVISION)),
        lifetime,
        fc.constantFrom('1', '{"ä":"\u{1f600}"}', ''),
        revision,
      )
      .map(
        ([expected, ttl, json, next]): Step =>
          async (world) => {
            const document = json === '' ? '' : packDocument(next, json);
            await world.compare(documentWrite, key(world), { expected, ttl, document });
          },
      );
    await check(
      fc.oneof({ weight: 6, arbitrary: fc.oneof(write, write, fc.constant(read)) }, spoil(key)),
      75,
    );
  });

  it('script and in-memory implementation agree for sets of members', async () => {
    const keys = (world: World) => {
      const { members, expiries } = world.keys.members('forever', 'id');
      return [members, expiries];
    };
    // In UTF-16, the order of the last two is the reverse of that of their bytes.
    const names = ['a', 'ab', 'b', 'é', '"\\ud800"', '\uffff', '\u{1f600}'];
    const member = fc.constantFrom(...names);
    const add = fc.tuple(member, lifetime).map(
      ([name, ttl]): Step =>
        async (world) =>
          void (await world.compare(membersAdd, keys(world), { member: name, ttl })),
    );
    const remove = member.map(
      (name): Step =>
        async (world) =>
          void (await world.compare(membersRemove, keys(world), { member: name })),
    );
    const has = member.map(
      (name): Step =>
        async (world) =>
          void (await world.compare(membersHas, keys(world), { member: name })),
    );
    const size: Step = async (world) => void (await world.compare(membersSize, keys(world), undefined));
    const list = fc.tuple(fc.constantFrom('', ...names), fc.constantFrom(1, 2, 100)).map(
      ([after, limit]): Step =>
        async (world) =>
          void (await world.compare(membersList, keys(world), { after, limit })),
    );
    const lose = fc.nat(1).map(
      (which): Step =>
        async (world) => {
          const key = keys(world)[which] ?? '';
          world.both.keyspace.delete(key);
          await world.both.client.del(key);
        },
    );
    await check(
      fc.oneof(
        { weight: 9, arbitrary: fc.oneof(add, add, remove, has, fc.constant(size), list, turnClock) },
        { weight: 1, arbitrary: fc.oneof(spoil(keys, false), lose) },
      ),
      100,
    );
  });

  it('script and in-memory implementation agree for hundreds of members that expire together', async () => {
    const world = new World(both);
    const { members, expiries } = world.keys.members('forever', 'many');
    const keys = [members, expiries];
    const add = (member: string, ttl: number | null) => world.compare(membersAdd, keys, { member, ttl });
    await add('permanent', null);
    const engines = [both.memory, both.redis];
    const many = Array.from({ length: 250 }, (_, index) => ({ member: `member-${index}`, ttl: 100 * S }));
    await Promise.all(engines.flatMap((engine) => many.map((args) => engine.run(membersAdd, keys, args))));
    const pages = async () => {
      await world.compare(membersSize, keys, undefined);
      for (const limit of [1, 7, 1_000]) await world.compare(membersList, keys, { after: 'member-1', limit });
    };
    await pages();
    both.clock.time += 100 * S;
    await pages();
    // Each write removes a part of the expired members, and none of them comes back.
    for (let turn = 0; turn < 4; turn++) {
      await add('permanent', null);
      await pages();
      expect(await world.compare(membersSize, keys, undefined)).toEqual({ found: 'fine', size: 1 });
    }
  });

  it('script and in-memory implementation agree for locks', async () => {
    const keys = (world: World) => {
      const { lock, line, fence } = world.keys.lock('id');
      return [lock, line, fence];
    };
    const strings = (world: World) => keys(world).filter((key) => !key.endsWith(':line'));
    const line = (world: World) => [world.keys.lock('id').line];
    const token = fc.constantFrom('ann', 'bob', 'eve');
    const asked = fc.record({
      token,
      waitMs: fc.constantFrom(0, 100 * S, 1_000 * S),
      process: fc.constantFrom('P1', 'P2', 'P3'),
      channels: fc.constant('t-calls:'),
      isFair: fc.boolean(),
    });
    const lease = fc.constantFrom(100 * S, 1_000 * S);
    const metadata = fc.constantFrom('', '{"by":"ä:1"}');
    const acquire = fc.tuple(asked, lease, metadata).map(
      ([ask, ms, about]): Step =>
        async (world) =>
          void (await world.compare(lockAcquire, keys(world), { ...ask, lease: ms, metadata: about })),
    );
    const extend = fc.tuple(token, lease).map(
      ([owner, ms]): Step =>
        async (world) =>
          void (await world.compare(lockExtend, keys(world), { token: owner, lease: ms })),
    );
    const release = asked.map(
      (ask): Step =>
        async (world) =>
          void (await world.compare(lockRelease, keys(world), ask)),
    );
    const inspect = fc.constant<Step>(
      async (world) => void (await world.compare(lockInspect, keys(world), {})),
    );
    const force = fc.constant<Step>(
      async (world) => void (await world.compare(lockForceRelease, keys(world), { channels: 't-calls:' })),
    );
    await check(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(acquire, acquire, extend, release, inspect, force, turnClock) },
        spoil(strings),
        spoil(line, false),
      ),
      100,
    );
  });

  it('script and in-memory implementation agree for logs', async () => {
    const key = (world: World) => [world.keys.log('chat', 'id')];
    const append = fc
      .record({
        limit: fc.constantFrom(1, 3, 20),
        ttlMs: fc.constantFrom(null, 100 * S, 1_000 * S),
        text: fc.constantFrom('1', '{"a":"ä\u{1f600}"}', '"\\ud800"', '[]'),
      })
      .map(
        (args): Step =>
          async (world) => {
            const reply = await world.compare(logAppend, key(world), args);
            if (reply !== undefined) world.cursors.push(reply.cursor);
          },
      );
    const read = fc.tuple(fc.option(fc.nat(50), { nil: undefined }), fc.constantFrom(1, 2, 100)).map(
      ([nth, count]): Step =>
        async (world) => {
          const cursor = nth === undefined ? undefined : (world.cursors[nth] ?? '0-0');
          await world.compare(logRead, key(world), { after: cursor, count });
        },
    );
    const clear: Step = async (world) => void (await world.compare(logClear, key(world), undefined));
    await check(
      fc.oneof(
        { weight: 8, arbitrary: fc.oneof(append, append, read, turnClock) },
        { weight: 1, arbitrary: fc.oneof(fc.constant(clear), spoil(key, false)) },
      ),
      100,
      // Otherwise logs without a TTL would stay on the server.
      clear,
    );
  });

  it('script and in-memory implementation agree for idempotent requests', async () => {
    const key = (world: World) => [world.keys.idempotency('ann', 'id')];
    const claim = fc.record({
      token: fc.constantFrom('ann', 'bob'),
      fingerprint: fc.constantFrom(Buffer.alloc(32, 1), Buffer.alloc(32, 0xff)),
      attempt: fc.constantFrom(1, 2),
    });
    const span = fc.constantFrom(100 * S, 1_000 * S);
    const notice = { channel: 'outside-channel' };
    const begin = fc.tuple(claim, span, span, fc.boolean()).map(
      ([{ token, fingerprint }, lease, retention, waits]): Step =>
        async (world) => {
          const args = { token, fingerprint, lease, retention, waits };
          await world.compare(idempotencyBegin, key(world), args);
        },
    );
    const renew = fc.tuple(claim, span, span).map(
      ([run, lease, retention]): Step =>
        async (world) =>
          void (await world.compare(idempotencyRenew, key(world), { ...run, lease, retention })),
    );
    const complete = fc.tuple(claim, span, fc.option(fc.uint8Array({ maxLength: 300 }))).map(
      ([run, retention, bytes]): Step =>
        async (world) => {
          const response = bytes === null ? undefined : Buffer.from(bytes);
          await world.compare(idempotencyComplete, key(world), { ...run, ...notice, retention, response });
        },
    );
    const discard = fc.tuple(claim, span, fc.boolean()).map(
      ([{ token }, retention, hasRun]): Step =>
        async (world) =>
          void (await world.compare(idempotencyDiscard, key(world), { ...notice, token, retention, hasRun })),
    );
    await check(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(begin, begin, renew, complete, discard, turnClock) },
        spoil(key),
      ),
      100,
    );
  });

  it('script and in-memory implementation agree for concurrency limits', async () => {
    const keys = (world: World) => {
      const { slots, line } = world.keys.concurrency('id', 'p');
      return [slots, line];
    };
    const token = fc.constantFrom('ann', 'bob', 'eve', 'joe');
    const lease = fc.constantFrom(100 * S, 1_000 * S);
    const asked = fc.record({
      token,
      waitMs: fc.constantFrom(0, 100 * S, 1_000 * S),
      process: fc.constantFrom('P1', 'P2'),
      channels: fc.constant('t-calls:'),
      limit: fc.integer({ min: 1, max: 3 }),
    });
    const acquire = fc.tuple(asked, lease, fc.integer({ min: 1, max: 3 })).map(
      ([ask, ms, maxQueue]): Step =>
        async (world) =>
          void (await world.compare(concurrencyAcquire, keys(world), { ...ask, lease: ms, maxQueue })),
    );
    const renew = fc.tuple(token, lease).map(
      ([owner, ms]): Step =>
        async (world) =>
          void (await world.compare(concurrencyRenew, keys(world), {
            ...{ token: owner, lease: ms },
            ...{ process: 'P1', channels: 't-calls:' },
          })),
    );
    const release = asked.map(
      (ask): Step =>
        async (world) =>
          void (await world.compare(concurrencyRelease, keys(world), ask)),
    );
    await check(
      fc.oneof(
        { weight: 6, arbitrary: fc.oneof(acquire, acquire, renew, release, turnClock) },
        spoil(keys, false),
      ),
      100,
    );
  });
});
