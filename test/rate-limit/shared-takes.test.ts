import { expect, it, onTestFinished } from 'vitest';
import { Keys } from '../../src/base/keys.ts';
import { Deadline } from '../../src/engine/deadline.ts';
import type { Engine } from '../../src/engine/port.ts';
import type { Limiter, RedisKit } from '../../src/index.ts';
import type { PolicyGroup } from '../../src/rate-limit/decision.ts';
import { slidingWindow } from '../../src/rate-limit/operations/sliding-window.ts';
import { SharedTakes } from '../../src/rate-limit/shared-takes.ts';
import { startBothEngines } from '../support/both-engines.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { type RedisServer, startRedis } from '../support/servers.ts';
import { countCommands } from '../support/wire.ts';

const window = { algorithm: 'sliding-window', window: '1h' } as const;
const bucket = { algorithm: 'token-bucket', refill: { tokens: 1, per: '1h' } } as const;

async function start() {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const kit = kitForTest({ url: server.url });
  await kit.ready();
  return { server, kit };
}

/** A limiter on a server that knows its scripts. */
async function limiterOn(kit: RedisKit, policy: Parameters<RedisKit['limiter']>[0]): Promise<Limiter> {
  const limiter = kit.limiter(policy);
  await limiter.refund(await limiter.consume('warm-up'));
  return limiter;
}

async function commandsOf(server: RedisServer, work: () => unknown): Promise<readonly string[]> {
  return (await countCommands(server.url, work)).map(([name]) => name);
}

describeWithServers('requests of one identity in one turn of the event loop', () => {
  it.each([
    ['sliding-window', { ...window, limit: 20 }],
    ['token-bucket', { ...bucket, capacity: 20 }],
  ] as const)('32 requests cost one command, and each gets its own decision (%s)', async (_, policy) => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, policy);
    let decisions: Awaited<ReturnType<Limiter['consume']>>[] = [];
    const commands = await commandsOf(server, async () => {
      decisions = await Promise.all(Array.from({ length: 32 }, () => limiter.consume('ann')));
    });
    expect(commands).toEqual(['EVALSHA']);
    expect(decisions.map(({ used }) => used)).toEqual(
      Array.from({ length: 32 }, (_, index) => Math.min(index + 1, 20)),
    );
    expect(decisions.map(({ allowed }) => allowed)).toEqual(
      Array.from({ length: 32 }, (_, index) => index < 20),
    );
  });

  it('requests with different costs are decided in the order of their arrival', async () => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, { ...window, limit: 10 });
    const commands = await commandsOf(server, async () => {
      const decisions = await Promise.all([6, 5, 0, 3, 2, 1].map((cost) => limiter.consume('ann', { cost })));
      expect(decisions.map(({ allowed, used }) => [allowed, used])).toEqual([
        [true, 6],
        [false, 6],
        [true, 6],
        [true, 9],
        [false, 9],
        [true, 10],
      ]);
    });
    expect(commands).toEqual(['EVALSHA']);
  });

  it('requests of different identities do not share a command', async () => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, { ...window, limit: 10 });
    const commands = await commandsOf(server, () =>
      Promise.all(['ann', 'bob', 'ann', 'bob'].map((id) => limiter.consume(id))),
    );
    expect(commands).toEqual(['EVALSHA', 'EVALSHA']);
  });

  it('requests with different limits do not share a command', async () => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, { ...window, limit: 10 });
    const commands = await commandsOf(server, async () => {
      const decisions = await Promise.all([10, 1, 10].map((limit) => limiter.consume('ann', { limit })));
      expect(decisions.map(({ allowed }) => allowed)).toEqual([true, false, true]);
    });
    expect(commands).toHaveLength(3);
  });

  it('a request after another call of the limiter is decided after that call', async () => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, { ...window, limit: 1 });
    const allowed = await limiter.consume('ann');
    const commands = await commandsOf(server, async () => {
      const calls = [
        limiter.consume('ann'),
        limiter.refund(allowed),
        limiter.consume('ann'),
        limiter.peek('ann'),
        limiter.penalize('ann', 1),
        limiter.consume('ann'),
      ];
      const decisions = await Promise.all(calls);
      expect(decisions.map((each) => each?.allowed)).toEqual([false, undefined, true, false, false, false]);
    });
    expect(commands).toEqual(Array(6).fill('EVALSHA'));
  });

  it('each request that shared a failed command follows the failure policy on its own', async () => {
    const { server, kit } = await start();
    const limiter = await limiterOn(kit, { ...window, limit: 2 });
    await server.stop();
    const decisions = await Promise.all([1, 2, 3].map(() => limiter.consume('ann')));
    expect(decisions.map(({ degraded, used, allowed }) => [degraded, used, allowed])).toEqual([
      [true, 1, true],
      [true, 2, true],
      [true, 2, false],
    ]);
  });
});

/** An identity with one policy, and an engine on Redis whose commands cannot be amended any more if `isLate`. */
async function startTakes(isLate: boolean) {
  const both = await startBothEngines();
  onTestFinished(() => both.stop());
  const sent: (readonly number[])[] = [];
  const engine: Engine = {
    run: (...call) => both.redis.run(...call),
    delete: (...call) => both.redis.delete(...call),
    scan: (pattern) => both.redis.scan(pattern),
    runAmendable(operation, keys, args, deadline) {
      const command = both.redis.runAmendable?.(operation, keys, args, deadline);
      if (command === undefined) throw new Error('the Redis engine amends commands');
      sent.push((args as { readonly costs: readonly number[] }).costs);
      return isLate ? { ...command, amend: () => undefined } : command;
    },
  };
  const group: PolicyGroup = {
    id: 'ann',
    denyKey: 'ann',
    policies: [{ name: 'p', limit: 5, algorithm: slidingWindow, numbers: [5, 100_000, 1] }],
    keys: [new Keys(both.prefix).rate('ann', 'p')],
  };
  return { takes: new SharedTakes(engine), group, sent };
}

it('a request that joined a command too late gets a command of its own, and is charged once', async () => {
  const { takes, group, sent } = await startTakes(true);
  const replies = await Promise.all([1, 2, 3].map((cost) => takes.take(group, cost, undefined)));
  expect(sent).toEqual([[1], [2], [3]]);
  expect(replies.map(([reply]) => reply?.allowed)).toEqual([true, true, false]);
  expect((await takes.take(group, 2, undefined))[0]).toMatchObject({ allowed: true, used: 5 });
});

it('a group keeps nothing of its requests after their reply', async () => {
  const { takes, group } = await startTakes(false);
  await Promise.all([1, 2].map((cost) => takes.take(group, cost, undefined)));
  expect(group.shared).toBeUndefined();
});

it('requests with different times left do not share a command', async () => {
  const { takes, group, sent } = await startTakes(false);
  const deadlines = [100_000, 100_000, 50_000, 100_000].map((ms) => new Deadline(ms));
  await Promise.all(deadlines.map((deadline) => takes.take(group, 1, deadline)));
  expect(sent).toHaveLength(3);
  for (const deadline of deadlines) expect(deadline.remainingMs()).toBeGreaterThan(0);
});
