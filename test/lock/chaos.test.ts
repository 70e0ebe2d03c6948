import { setTimeout as pause } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { withPlainClient } from '../support/plain-client.ts';
import type { Program } from '../support/program.ts';
import { startProxy } from '../support/proxy.ts';
import { startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { startRegister, startWorker } from './register.ts';

const WORKERS = 4;
const LEASE_MS = 800;
const WAIT_MS = 4_000;

describeWithServers('A register that locks protect', () => {
  it('a register under a lock never takes two writes at once while holders, waiters and Redis fail', {
    timeout: 300_000,
  }, async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    const prefix = testPrefix();
    const proxy = await startProxy(server);
    const register = await startRegister();
    const workers = new Map<string, Program>();
    let made = 0;
    const hire = () => {
      const name = `w${++made}`;
      const url = made % 2 === 0 ? proxy.url : server.url;
      const connection = `url: '${url}', prefix: '${prefix}'`;
      // Each worker waits for a different time, which the queue shows and which identifies the worker.
      const waitMs = WAIT_MS + made;
      workers.set(name, startWorker({ name, connection, register, leaseMs: LEASE_MS, waitMs }));
    };
    const dismiss = (name: string) => {
      workers.get(name)?.process.kill('SIGKILL');
      workers.delete(name);
      hire();
    };
    const writes = async (more: number) => {
      const count = register.accepted.length + more;
      await until(`${more} writes more`, () => register.accepted.length >= count);
    };
    const writing = async () => {
      await until('a worker writes', () => workers.has(register.writer ?? ''));
      return register.writer ?? '';
    };
    const firstWaiter = () =>
      withPlainClient(server.url, async (client) => {
        let name = '';
        await until('a worker waits', async () => {
          const [member] = await client.zRange(`${prefix}:lock:{a}:line`, 0, 0);
          name = `w${Number(member?.split(':')[2]) - WAIT_MS}`;
          return workers.has(name);
        });
        return name;
      });
    const send = (...command: string[]) =>
      withPlainClient(server.url, (client) => client.sendCommand(command));

    for (let worker = 0; worker < WORKERS; worker++) hire();
    await writes(20);
    const suspendWriter = async () => {
      const sleeper = await writing();
      workers.get(sleeper)?.process.kill('SIGSTOP');
      await writes(3);
      workers.get(sleeper)?.process.kill('SIGCONT');
      await writes(3);
    };
    for (let round = 0; round < 2; round++) {
      await suspendWriter();
      await send('SCRIPT', 'FLUSH');
      await writes(3);
      dismiss(await writing());
      await writes(3);
      dismiss(await firstWaiter());
      await writes(3);
      await send('CLIENT', 'KILL', 'TYPE', round % 2 === 0 ? 'normal' : 'pubsub');
      await writes(3);
      proxy.loseNextReply();
      await writes(3);
      if (round === 1) {
        await server.kill();
        await pause(200);
        await server.restart();
        await writes(3);
      }
    }
    // A worker may have sent the end of its write just before it was suspended.
    while (register.rejected === 0) await suspendWriter();
    await writes(20);

    for (const worker of workers.values()) {
      await worker.line();
      worker.process.kill('SIGTERM');
    }
    for (const { ended } of workers.values())
      expect(await ended).toMatchObject({ code: 0, said: expect.stringMatching(/\nwrote \d+$/) });
    expect(register.complaints).toEqual([]);
    expect(register.rejected, 'a late write was refused by its fencing token').toBeGreaterThan(0);
    expect(new Set(register.fences).size, 'each grant has a fence of its own').toBe(register.fences.length);
    for (const [index, { fence, from }] of register.accepted.entries()) {
      const before = register.accepted[index - 1];
      if (before === undefined) continue;
      expect(fence).toBeGreaterThan(before.fence);
      expect(from, 'it began after the last one had ended').toBeGreaterThan(before.to);
    }

    const kit = kitForTest({ url: server.url, prefix });
    await kit.locks.using('a', { wait: '20s' }, () => undefined);
    const keys = await withPlainClient(server.url, (client) => client.keys(`${prefix}:*`));
    expect(keys).toEqual([`${prefix}:lock:{a}:fence`]);
    expect(await withPlainClient(server.url, (client) => client.pTTL(keys[0] ?? ''))).toBeGreaterThan(0);
  });
});
