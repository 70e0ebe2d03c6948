import type { Request } from 'express';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import { ConnectionError, StoreError } from '../../src/base/errors.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { FailurePolicies } from '../../src/base/failure-policies.ts';
import { Keys } from '../../src/base/keys.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { type Deadline, RequestDeadlines } from '../../src/engine/deadline.ts';
import type { Engine } from '../../src/engine/port.ts';
import type { SessionOptions } from '../../src/index.ts';
import { SessionAdministration } from '../../src/session/admin.ts';
import { sessionMiddleware } from '../../src/session/middleware.ts';
import { type BothEngines, startBothEngines } from '../support/both-engines.ts';
import { Browser, type Routes, serveSessions } from './browser.ts';

/** The commands that fit into a deadline: enough for a login, the most expensive call. */
const COMMANDS_PER_DEADLINE = 8;

/** An engine whose time passes with each command and not by the clock. */
function rationed(engine: Engine) {
  const spent = new Map<Deadline, number>();
  const pay = (deadline: Deadline | undefined) => {
    if (deadline === undefined) return;
    const commands = (spent.get(deadline) ?? 0) + 1;
    spent.set(deadline, commands);
    if (commands > COMMANDS_PER_DEADLINE) throw new Error('no time is left to ask Redis');
  };
  const rationedEngine: Engine = {
    async run(operation, keys, args, deadline) {
      pay(deadline);
      return engine.run(operation, keys, args, deadline);
    },
    async delete(keys, deadline) {
      pay(deadline);
      return engine.delete(keys, deadline);
    },
    scan: (pattern) => engine.scan(pattern),
  };
  return { engine: rationedEngine, spent };
}

/**
 * An engine that stalls at the next command of a name until another command is sent. The caller gets a timeout, and no time
 * is left of its deadline. The commands then run in their order, as those of one connection.
 */
function stalling(engine: Engine) {
  const isOver = new Set<Deadline>();
  let name: string | undefined;
  let late: (() => Promise<unknown>) | undefined;
  async function run<Reply>(
    command: string,
    deadline: Deadline | undefined,
    work: () => Promise<Reply>,
  ): Promise<Reply> {
    if (deadline !== undefined && isOver.has(deadline)) throw new ConnectionError('no time is left');
    if (command === name) {
      [name, late] = [undefined, work];
      if (deadline !== undefined) isOver.add(deadline);
      throw new StoreError('ERR_REDIS_KIT_TIMEOUT', 'Redis did not answer in time');
    }
    const before = late;
    late = undefined;
    await before?.();
    return work();
  }
  const stallingEngine: Engine = {
    run: (operation, keys, args, deadline) =>
      run(operation.name, deadline, () => engine.run(operation, keys, args, deadline)),
    delete: (keys, deadline) => run('delete', deadline, () => engine.delete(keys, deadline)),
    scan: (pattern) => engine.scan(pattern),
  };
  const stallAt = (command: string) => {
    name = command;
  };
  return { engine: stallingEngine, stallAt, hasStalled: () => name === undefined };
}

async function serveOn(both: BothEngines, engine: Engine, routes: Routes, options: SessionOptions = {}) {
  const deps = {
    engine,
    keys: new Keys(both.prefix),
    reporter: new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger),
    deadlines: new RequestDeadlines(500),
    isMemory: true,
    seals: new Set<never>(),
    failurePolicies: new FailurePolicies(),
  };
  const port = await serveSessions({ session: (own = {}) => sessionMiddleware(own, deps) }, options, routes);
  return { browser: new Browser(port), admin: new SessionAdministration(deps, deps.seals) };
}

async function bothEngines(): Promise<BothEngines> {
  const both = await startBothEngines();
  onTestFinished(() => both.stop());
  return both;
}

async function start(name: 'memory' | 'redis', routes: Routes) {
  const both = await bothEngines();
  const { engine, spent } = rationed(both[name]);
  const { browser } = await serveOn(both, engine, routes);
  return { browser, spent };
}

const CALLS: Readonly<Record<string, (req: Request) => Promise<unknown>>> = {
  'session.save': (req) => {
    req.session.views = (req.session.views ?? 0) + 1;
    return req.session.save();
  },
  'session.reload': (req) => req.session.reload(),
  'session.login': (req) => req.session.login('ann'),
  'session.logout': async (req) => {
    await req.session.save();
    await req.session.logout();
  },
  'session.regenerate and save': async (req) => {
    await req.session.regenerate();
    await req.session.save();
  },
  'session.regenerate and destroy': async (req) => {
    await req.session.regenerate();
    const { session } = req;
    await session.save();
    await session.destroy();
    await session.regenerate();
  },
  'sessionStore.get': (req) => called((done) => req.sessionStore.get(req.sessionID, done)),
  'sessionStore.set': (req) => called((done) => req.sessionStore.set(req.sessionID, req.session, done)),
  'sessionStore.destroy': async (req) => {
    await req.session.regenerate();
    await req.session.save();
    await called((done) => req.sessionStore.destroy(req.sessionID, done));
  },
};

function called(call: (done: (error?: unknown) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error ? reject(error) : resolve()));
  });
}

it.each(
  Object.entries(CALLS).flatMap(([name, call]) =>
    (['memory', 'redis'] as const).map((engine) => [name, engine, call] as const),
  ),
)('a handler can call %s 30 times, each call with a deadline of its own (%s)', async (_, engine, call) => {
  const { browser } = await start(engine, {
    '/long': async (req, res) => {
      for (let times = 0; times < 30; times++) await call(req);
      res.end('done');
    },
  });
  await browser.get('/view');
  expect((await browser.get('/long')).body).toBe('done');
});

it('the load before and the save after the handler share one deadline', async () => {
  const { browser, spent } = await start('memory', {});
  await browser.get('/view');
  spent.clear();
  await browser.get('/view');
  expect([...spent.values()]).toEqual([2]);
});

describe.each(['memory', 'redis'] as const)('a login that fails at the deadline (%s)', (name) => {
  const ROUTES: Routes = {
    '/in': async (req, res) => {
      const error: unknown = await req.session.login('ann').catch((thrown: unknown) => thrown);
      res.status(error === undefined ? 200 : 503).end();
    },
    '/assign': (req, res) => {
      req.session.userId = 'ann';
      res.end();
    },
  };

  async function startStalling() {
    const both = await bothEngines();
    const { engine, stallAt, hasStalled } = stalling(both[name]);
    const options: SessionOptions = { maxPerUser: { limit: 1, onExceed: 'reject' } };
    const { browser, admin } = await serveOn(both, engine, ROUTES, options);
    await browser.get('/view');
    const fail = async (path: string, command: string) => {
      stallAt(command);
      const { status } = await browser.get(path);
      expect([status, hasStalled()]).toEqual([503, true]);
    };
    return { browser, admin, fail };
  }

  it.each(['session-write', 'user-sessions-add'])(
    'a login whose %s is late changes nothing, and the next login succeeds',
    async (command) => {
      const { browser, admin, fail } = await startStalling();
      await fail('/in', command);
      expect(await browser.data()).toEqual({ views: 1 });
      expect([await admin.count('ann'), await admin.count()]).toEqual([0, 1]);
      expect((await browser.get('/in')).status).toBe(200);
    },
  );

  it('a login that destroys the old session too late leaves no session that counts for `maxPerUser`', async () => {
    const { browser, admin, fail } = await startStalling();
    await fail('/in', 'delete');
    expect(await browser.data()).toEqual({});
    expect([await admin.count('ann'), await admin.count()]).toEqual([0, 0]);
    expect((await browser.get('/in')).status).toBe(200);
  });

  it.each(['session-write', 'user-sessions-add'])(
    'a save of a new `userId` whose %s is late ends the session, since no list has it',
    async (command) => {
      const { browser, admin, fail } = await startStalling();
      await fail('/assign', command);
      expect(await browser.data()).toEqual({});
      expect([await admin.count('ann'), await admin.count()]).toEqual([0, 0]);
      expect((await browser.get('/assign')).status).toBe(200);
    },
  );

  it('a login whose eviction of another session is late ends both sessions', async () => {
    const both = await bothEngines();
    const { engine, stallAt } = stalling(both[name]);
    const options: SessionOptions = { maxPerUser: { limit: 1, onExceed: 'evict-oldest' } };
    const { browser, admin } = await serveOn(both, engine, ROUTES, options);
    await browser.get('/in');
    stallAt('session-destroy');
    await new Browser(browser.port).get('/in');
    expect(await browser.data()).toEqual({});
    expect(await admin.count()).toBe(0);
  });
});
