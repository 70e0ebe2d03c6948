import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { RedisKit } from '../../src/index.ts';
import { canStartServers, clusterNodes, redisUrl } from '../support/context.ts';
import { testPrefix } from '../support/kits.ts';
import { until } from '../support/until.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PAGE = readFileSync(join(ROOT, 'docs/recipes.md'), 'utf8');

/** A snippet of docs/recipes.md that has run to its end. */
interface Recipe {
  readonly kit: RedisKit;
  readonly keyOf: (name: string, part?: string) => string;
}

/** The options that replace those of the setup on the page. */
type Where = () => object;

const memory: Where = () => ({ url: 'memory:' });
const redis: Where = () => ({ url: redisUrl() });
const cluster: Where = () => ({ cluster: { nodes: clusterNodes() } });

/** Runs the snippet under a heading of the page as a module, after the setup. Resolves to what the snippet declares. */
async function runRecipe<Names>(heading: string, where: Where): Promise<Names & Recipe> {
  const setup = snippetUnder('Setup').replace(
    /createRedisKit\(.*\)/,
    `createRedisKit(${JSON.stringify({ ...where(), prefix: testPrefix(), commandTimeout: '1m', logger: false })})`,
  );
  const code = snippetUnder(heading);
  const names = [...`${setup}${code}`.matchAll(/^(?:async )?(?:function|const) (\w+)/gm)].map(
    ([, name]) => name,
  );
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.cache/recipes-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'recipe.ts');
  writeFileSync(file, `${setup}\n${code}\nexport { ${names.join(', ')} };\n`);
  const recipe = (await import(file)) as Names & Recipe;
  onTestFinished(() => recipe.kit.close());
  return recipe;
}

function snippetUnder(heading: string): string {
  const [, code = ''] = new RegExp(`^## ${heading}\\n.*?^\`\`\`ts\\n(.*?)^\`\`\``, 'ms').exec(PAGE) ?? [];
  expect(code, heading).not.toBe('');
  return code;
}

type Tests = (where: Where) => void;

/** Recipes that need only the kit. */
function onEveryStore(name: string, tests: Tests): void {
  describe(`${name}, on memory:`, () => tests(memory));
  onRedis(name, tests);
}

/** Recipes with commands of their own. */
function onRedis(name: string, tests: Tests): void {
  describe(`${name}, on Redis`, () => tests(redis));
  describe.skipIf(!canStartServers())(`${name}, on a Cluster`, () => tests(cluster));
}

describe('docs/recipes.md', () => {
  it('every recipe of docs/recipes.md is in its table and has a test here', () => {
    const recipes = [...PAGE.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading).slice(1);
    const table = [...PAGE.matchAll(/^\| \[(.+)\]\(#/gm)].map(([, heading]) => heading);
    const tests = readFileSync(fileURLToPath(import.meta.url), 'utf8');
    expect(table).toEqual(recipes);
    expect(recipes.filter((recipe) => !tests.includes(`('${recipe}', (where)`))).toEqual([]);
  });

  it('a recipe with commands of its own names Redis as the reason why it fails on memory:', async () => {
    await expect(runRecipe('Leaderboard', memory)).rejects.toThrow('this recipe needs Redis');
  });
});

onEveryStore('Feature flags', (where) => {
  interface Flag {
    readonly percent?: number;
    readonly users?: readonly string[];
  }
  interface Flags {
    readonly flags: { delete(name: string): Promise<boolean> };
    isOn(name: string, userId: string): Promise<boolean>;
    changeFlag(name: string, change: Flag): Promise<void>;
  }
  const users = Array.from({ length: 400 }, (_, index) => `user-${index}`);

  it('a flag is on for its users and for about its percentage of all users, who keep it when the percentage grows', async () => {
    const { flags, isOn, changeFlag } = await runRecipe<Flags>('Feature flags', where);
    onTestFinished(async () => {
      for (const name of ['new-checkout', 'search']) await flags.delete(name);
    });
    const usersOf = async (name: string) => {
      const on = await Promise.all(users.map((user) => isOn(name, user)));
      return users.filter((_, index) => on[index]);
    };
    expect(await isOn('new-checkout', 'ann')).toBe(true);
    expect(await isOn('unknown', 'ann')).toBe(false);
    const tenth = await usersOf('new-checkout');
    expect(tenth.length).toBeGreaterThan(20);
    expect(tenth.length).toBeLessThan(70);
    await changeFlag('new-checkout', { percent: 50 });
    expect(await usersOf('new-checkout')).toEqual(expect.arrayContaining(tenth));
    await changeFlag('search', { percent: 10 });
    expect(await usersOf('search')).not.toEqual(tenth);
    await changeFlag('search', { percent: 100 });
    expect(await usersOf('search')).toEqual(users);
  });

  it('parallel changes of one flag are all kept', async () => {
    const { flags, isOn, changeFlag } = await runRecipe<Flags>('Feature flags', where);
    onTestFinished(async () => {
      await flags.delete('new-checkout');
    });
    await Promise.all([
      changeFlag('new-checkout', { percent: 0 }),
      changeFlag('new-checkout', { users: ['ben'] }),
    ]);
    expect(await isOn('new-checkout', 'ben')).toBe(true);
    expect((await Promise.all(users.map((user) => isOn('new-checkout', user)))).includes(true)).toBe(false);
  });
});

onEveryStore('Users online', (where) => {
  it('users are online once each', async () => {
    const { seen, usersOnline } = await runRecipe<{
      seen(userId: string): Promise<void>;
      usersOnline(): Promise<{ readonly count: number; readonly first: string[] }>;
    }>('Users online', where);
    await Promise.all(['ann', 'ben', 'ben'].map(seen));
    const { count, first } = await usersOnline();
    expect([count, first.sort()]).toEqual([2, ['ann', 'ben']]);
  });
});

onEveryStore('A job that runs once a day', (where) => {
  interface Daily {
    runDaily(name: string, job: (signal: AbortSignal) => Promise<void>): Promise<boolean>;
  }

  it('a daily job runs once among processes that start it together, and again only on the next day', async () => {
    const { runDaily } = await runRecipe<Daily>('A job that runs once a day', where);
    onTestFinished(() => void vi.useRealTimers());
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 10, 29, 12) });
    let count = 0;
    const job = async () => void count++;
    const ran = await Promise.all([1, 2, 3].map(() => runDaily('report', job)));
    expect([ran.filter(Boolean).length, count]).toEqual([1, 1]);
    expect([await runDaily('report', job), count]).toEqual([false, 1]);
    vi.setSystemTime(Date.UTC(2026, 10, 30, 12));
    expect([await runDaily('report', job), count]).toEqual([true, 2]);
  });

  it('a daily job that fails runs again', async () => {
    const { runDaily } = await runRecipe<Daily>('A job that runs once a day', where);
    const failing = runDaily('report', async () => {
      throw new Error('the printer is on fire');
    });
    await expect(failing).rejects.toThrow('the printer is on fire');
    expect(await runDaily('report', async () => undefined)).toBe(true);
  });
});

onRedis('Leaderboard', (where) => {
  it('a leaderboard ranks players by the sum of their points, and its key has a TTL', async () => {
    const { addPoints, best, rankOf, keyOf, kit } = await runRecipe<{
      addPoints(week: string, player: string, points: number): Promise<number>;
      best(week: string, limit: number): Promise<{ readonly value: string; readonly score: number }[]>;
      rankOf(week: string, player: string): Promise<number | undefined>;
    }>('Leaderboard', where);
    await Promise.all(['ben', 'cleo', 'ben'].map((player) => addPoints('a week', player, 20)));
    expect(await addPoints('a week', 'ann', 30)).toBe(30);
    expect(await best('a week', 2)).toEqual([
      { value: 'ben', score: 40 },
      { value: 'ann', score: 30 },
    ]);
    expect([await rankOf('a week', 'cleo'), await rankOf('a week', 'dan')]).toEqual([3, undefined]);
    expect(await kit.client?.ttl(keyOf('board', 'a week'))).toBeGreaterThan(3_000_000);
  });
});

onRedis('Unique visitors', (where) => {
  it('a visitor of two days counts once', async () => {
    const { countVisit, uniqueVisitors, keyOf, kit } = await runRecipe<{
      countVisit(day: string, visitor: string): Promise<void>;
      uniqueVisitors(days: string[]): Promise<number>;
    }>('Unique visitors', where);
    await Promise.all(['ann', 'ben', 'ann'].map((visitor) => countVisit('monday', visitor)));
    await Promise.all(['ann', 'cleo'].map((visitor) => countVisit('tuesday', visitor)));
    expect(await uniqueVisitors(['monday'])).toBe(2);
    expect(await uniqueVisitors(['monday', 'tuesday'])).toBe(3);
    expect(await kit.client?.ttl(keyOf('visitors', 'monday'))).toBeGreaterThan(3_000_000);
  });
});

onRedis('Queue with blocking reads', (where) => {
  interface Queue {
    readonly jobs: string;
    addJob(job: object): Promise<void>;
    work(worker: string, handle: (job: unknown) => Promise<void>, signal: AbortSignal): Promise<void>;
  }

  it('a worker waits for jobs and handles them in order, while the kit runs other commands', async () => {
    const { addJob, work, kit } = await runRecipe<Queue>('Queue with blocking reads', where);
    const stop = new AbortController();
    const handled: unknown[] = [];
    const handle = async (job: unknown) => {
      if (handled.push(job) === 3) stop.abort();
    };
    const working = work('host', handle, stop.signal);
    const lock = await kit.locks.tryAcquire('other work');
    await lock?.release();
    for (const to of ['ann', 'ben', 'cleo']) await addJob({ to });
    await working;
    expect(handled).toEqual([{ to: 'ann' }, { to: 'ben' }, { to: 'cleo' }]);
  });

  it('a job whose handler fails is handled first after a restart of its worker', async () => {
    const { addJob, work, jobs, keyOf, kit } = await runRecipe<Queue>('Queue with blocking reads', where);
    for (const to of ['ann', 'ben']) await addJob({ to });
    const failing = async () => {
      throw new Error('the printer is on fire');
    };
    await expect(work('host', failing, new AbortController().signal)).rejects.toThrow('on fire');
    const stop = new AbortController();
    const handled: unknown[] = [];
    const handle = async (job: unknown) => {
      if (handled.push(job) === 2) stop.abort();
    };
    await work('host', handle, stop.signal);
    expect(handled).toEqual([{ to: 'ann' }, { to: 'ben' }]);
    const lists = [jobs, keyOf('mails', 'taken by host')];
    expect(await Promise.all(lists.map((list) => kit.client?.exists(list)))).toEqual([0, 0]);
  });
});

onRedis('Delayed jobs', (where) => {
  interface Delayed {
    readonly delayed: string;
    runLater(job: string, delayMs: number): Promise<void>;
    runDue(handle: (job: string) => Promise<void>, claimMs?: number): Promise<void>;
  }

  it('parallel workers run each job once and not before it is due', async () => {
    const { runLater, runDue, delayed, kit } = await runRecipe<Delayed>('Delayed jobs', where);
    const handled: string[] = [];
    const handle = async (job: string) => void handled.push(job);
    for (const job of ['a', 'b', 'c']) await runLater(job, 0);
    await runLater('later', 3_600_000);
    await Promise.all([runDue(handle), runDue(handle)]);
    expect(handled.sort()).toEqual(['a', 'b', 'c']);
    await runLater('later', 0);
    await runDue(handle);
    expect([handled.at(-1), await kit.client?.exists(delayed)]).toEqual(['later', 0]);
  });

  it('a job whose worker dies is due again after its claim, and a job that is added during its run is kept', async () => {
    const { runLater, runDue, delayed, kit } = await runRecipe<Delayed>('Delayed jobs', where);
    await runLater('a', 0);
    const dying = async () => {
      throw new Error('the worker dies');
    };
    await expect(runDue(dying, 1)).rejects.toThrow('the worker dies');
    const handled: string[] = [];
    const handle = async (job: string) => {
      handled.push(job);
      await runLater(job, 3_600_000);
    };
    await until('the claim is over', async () => {
      await runDue(handle);
      return handled.length > 0;
    });
    expect([handled, await kit.client?.zCard(delayed)]).toEqual([['a'], 1]);
    await kit.client?.del(delayed);
  });
});
