import type { Request } from 'express';
import { expect, it, onTestFinished } from 'vitest';
import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { FailurePolicies } from '../../src/base/failure-policies.ts';
import { Keys } from '../../src/base/keys.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { Reporter } from '../../src/base/reporter.ts';
import { type Deadline, RequestDeadlines } from '../../src/engine/deadline.ts';
import type { Engine } from '../../src/engine/port.ts';
import { sessionMiddleware } from '../../src/session/middleware.ts';
import { startBothEngines } from '../support/both-engines.ts';
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

async function start(name: 'memory' | 'redis', routes: Routes) {
  const both = await startBothEngines();
  onTestFinished(() => both.stop());
  const { engine, spent } = rationed(both[name]);
  const deps = {
    engine,
    keys: new Keys(both.prefix),
    reporter: new Reporter(new Emitter<KitEvents>(silentLogger), silentLogger),
    deadlines: new RequestDeadlines(500),
    isMemory: true,
    seals: new Set<never>(),
    failurePolicies: new FailurePolicies(),
  };
  const port = await serveSessions(
    { session: (options = {}) => sessionMiddleware(options, deps) },
    {},
    routes,
  );
  return { browser: new Browser(port), spent };
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
