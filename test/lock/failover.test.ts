import { expect, it, onTestFinished } from 'vitest';
import { keySlot } from '../../src/connection/key-slot.ts';
import { describeWithServers } from '../support/context.ts';
import { kitForTest, testPrefix } from '../support/kits.ts';
import { startCluster } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { startRegister, startWorker } from './register.ts';

const MASTERS = 3;

describeWithServers('Locks on a Cluster of three masters and three replicas', () => {
  it('locks can be acquired after a master has failed, and their fencing tokens still grow', {
    timeout: 300_000,
  }, async () => {
    const cluster = await startCluster({ masters: MASTERS, replicasPerMaster: 1 });
    onTestFinished(() => cluster.stop());
    const prefix = testPrefix();
    const register = await startRegister();
    const nodes = cluster.nodes.map(({ host, port }) => ({ host, port }));
    const connection = `cluster: { nodes: ${JSON.stringify(nodes)} }, prefix: '${prefix}'`;
    const workers = [1, 2, 3].map((made) =>
      startWorker({ name: `w${made}`, connection, register, leaseMs: 1_500, waitMs: 5_000 }),
    );
    const writes = async (more: number) => {
      const count = register.accepted.length + more;
      await until(`${more} writes more`, () => register.accepted.length >= count);
    };
    await writes(20);

    const kit = kitForTest({ cluster: { nodes }, prefix });
    await kit.ready();
    const slot = keySlot(`${prefix}:lock:{a}`);
    const master = cluster.nodes[Math.floor((slot * MASTERS) / 16_384)];
    const last = register.accepted.at(-1)?.fence ?? 0;
    await master?.server.kill();
    await writes(20);
    expect(register.accepted.at(-1)?.fence).toBeGreaterThan(last);

    for (const worker of workers) {
      await worker.line();
      worker.process.kill('SIGTERM');
    }
    for (const { ended } of workers)
      expect(await ended).toMatchObject({ code: 0, said: expect.stringMatching(/\nwrote \d+$/) });
    expect(register.complaints).toEqual([]);
    expect(new Set(register.fences).size, 'each grant has a fence of its own').toBe(register.fences.length);
    const fences = register.accepted.map(({ fence }) => fence);
    expect(fences).toEqual([...fences].sort((a, b) => a - b));
    await until('the lock is free', async () => !(await kit.locks.inspect('a')).held);
  });
});
