import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { BoundedMap } from '../../src/base/bounded-map.ts';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { Refresher } from '../../src/cache/http/refresher.ts';
import { VaryMemory } from '../../src/cache/http/vary.ts';
import { LocalCopies, LocalState } from '../../src/cache/store/local-state.ts';
import { KnownVersions } from '../../src/cache/store/versions.ts';
import { DenyCache } from '../../src/rate-limit/deny-cache.ts';
import { LimiterNames } from '../../src/rate-limit/misuse.ts';

const MEBIBYTE = 2 ** 20;

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** The growth of the heap in bytes. `fill` returns the object that keeps the memory alive. */
function growth(fill: () => object): number {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const held = fill();
  collectGarbage();
  const bytes = process.memoryUsage().heapUsed - before;
  // Keeps the object alive until here.
  return held === undefined ? Number.NaN : bytes;
}

/** A URL of 14 kB as a client sends it: its part before the query is a slice that keeps the whole alive. */
function longUrl(index: number): string {
  return `/${index}/${'x'.repeat(14_000)}?page=${index}`;
}

function pathOf(index: number): string {
  const url = `/products/${index}?${'x'.repeat(14_000)}${index}`;
  // Flat, as Node's parser creates it: a slice of a concatenated string would not keep the whole alive.
  return Buffer.from(url, 'latin1').toString('latin1').split('?', 1)[0] ?? '';
}

const nothing = () => undefined;
const refresher = () => new Refresher(() => 0, { failed: nothing, refused: nothing });
const reporter = () => new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger);
const lifetime = {
  freshMs: 1,
  staleWhileRevalidateMs: 0,
  staleIfErrorMs: 0,
  ageMs: 0,
  isStrict: false,
  validatableMs: 0,
};
const entry = {
  ...{
    content: '',
    names: [],
    sequence: 0,
    versions: [],
    lifetime,
    bytes: 0,
    readAt: 0,
    storedAt: 0,
    freshUntil: 0,
  },
};

/** All maps whose keys clients choose: how each is filled, and the most that it may hold. */
const HOLDERS: Readonly<Record<string, () => { add(name: string): void; readonly maxBytes: number }>> = {
  'the memory of Vary': () => {
    const memory = new VaryMemory();
    return { add: (name) => memory.learn(name, 'accept-encoding'), maxBytes: 4 * MEBIBYTE };
  },
  'refreshes under way': () => {
    const held = refresher();
    return { add: (name) => held.leaveToClient(name), maxBytes: 2 * MEBIBYTE };
  },
  'responses that cannot be validated': () => {
    const held = refresher();
    return { add: (name) => held.cannotValidate(name), maxBytes: 2 * MEBIBYTE };
  },
  'hit-for-miss markers': () => {
    const { hitForMiss } = new LocalState<string>(1, { detach: (text) => text, addedBytes: () => 0 });
    return { add: (name) => hitForMiss.set(name, 1), maxBytes: 2 * MEBIBYTE };
  },
  'markers of responses that are validated for each request': () => {
    const { uncollapsed } = new LocalState<string>(1, { detach: (text) => text, addedBytes: () => 0 });
    return { add: (name) => uncollapsed.set(name, 1), maxBytes: 2 * MEBIBYTE };
  },
  'local copies': () => {
    const copies = new LocalCopies<string>(8 * MEBIBYTE, { detach: (text) => text, addedBytes: () => 0 });
    return { add: (name) => copies.put(name, entry), maxBytes: 8 * MEBIBYTE };
  },
  'known versions': () => {
    const known = new KnownVersions();
    return { add: (name) => void known.track(name), maxBytes: 16 * MEBIBYTE };
  },
  'sequences of namespaces': () => {
    const known = new KnownVersions();
    return { add: (name) => known.noteSequence(name, 1), maxBytes: MEBIBYTE };
  },
  'names of limiters': () => {
    const names = new LimiterNames(reporter());
    return { add: (name) => names.claim(name, ['a']), maxBytes: 4 * MEBIBYTE };
  },
  'failures that were reported': () => {
    const held = reporter();
    return { add: (name) => held.failure('cache', new Error(name)), maxBytes: MEBIBYTE };
  },
  'warnings that were given': () => {
    const held = reporter();
    return { add: (name) => void held.warning(name), maxBytes: MEBIBYTE };
  },
};

/** Enough names to exceed each bound more than twice if their URLs were kept alive. */
const NAMES = 3_000;

describe('maps whose keys clients choose', () => {
  it.for(Object.entries(HOLDERS))('%s: 3,000 names of 14 kB stay within the bound', ([, make]) => {
    const { add, maxBytes } = make();
    const bytes = growth(() => {
      for (let index = 0; index < NAMES; index++) add(longUrl(index));
      return add;
    });
    expect(bytes).toBeLessThan(maxBytes + 2 * MEBIBYTE);
  });

  it.for(Object.entries(HOLDERS))(
    '%s: short names do not keep alive the long URLs that they were cut from',
    ([, make]) => {
      const { add, maxBytes } = make();
      const bytes = growth(() => {
        for (let index = 0; index < NAMES; index++) add(pathOf(index));
        return add;
      });
      expect(bytes).toBeLessThan(maxBytes + 2 * MEBIBYTE);
    },
  );

  it('a refusal in the deny cache takes at most 2 kB, even for an id of 14 kB', () => {
    const maxEntries = 2_000;
    const refusals = new DenyCache({ maxEntries, maxAgeMs: 1_000 });
    const reply = {
      allowed: false,
      used: 1,
      waitMs: 1,
      resetMs: 1,
      stamp: 0,
      position: 0,
      found: 'fine',
    } as const;
    const bytes = growth(() => {
      for (let index = 0; index < 2 * maxEntries; index++) {
        const group = { id: longUrl(index), denyKey: `owner-${index}`, policies: [], keys: [] };
        refusals.remember(group, { cost: 1, replies: [reply], sentAt: 0, repliedAt: 0 });
      }
      return refusals;
    });
    expect(bytes).toBeLessThan(maxEntries * 2_000);
  });
});

describe('BoundedMap', () => {
  it('a full map drops its least recently used entry and calls `dropped`', () => {
    const dropped: number[] = [];
    const map = new BoundedMap<number>(
      700,
      () => 0,
      (value) => void dropped.push(value),
    );
    for (const key of ['a', 'b', 'c', 'd']) map.set(key, key.charCodeAt(0));
    map.get('a');
    map.peek('b');
    map.set('e', 0);
    expect(dropped).toEqual(['b'.charCodeAt(0)]);
    expect(['a', 'b', 'e'].map((key) => map.peek(key) !== undefined)).toEqual([true, false, true]);
    map.clear();
    expect([map.size, dropped.length]).toEqual([0, 5]);
  });

  it('an entry that is larger than the map is not stored', () => {
    const map = new BoundedMap<true>(1_000);
    map.set('x'.repeat(1_000), true);
    expect(map.size).toBe(0);
  });
});
