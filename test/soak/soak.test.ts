import { randomInt } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { startDurableCluster } from './faults.ts';
import { soak } from './soak.ts';

/** The short form, or a minute in `script/test --full`. script/soak sets a longer time. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? (process.env.REDIS_KIT_TESTS === 'full' ? 60 : 6));
const SEED = Number(process.env.SOAK_SEED ?? randomInt(2 ** 31));
const MAX_HEAP_GROWTH_MIB = 16;

describeWithServers('All features together', () => {
  it('all features keep their promises under load while faults are injected at random', {
    timeout: SECONDS * 1_000 + 200_000,
  }, async () => {
    const isShort = process.env.SOAK_SECONDS === undefined;
    const log = (line: string) => void (isShort || console.log(line));
    console.log(`SOAK_SEED=${SEED} SOAK_SECONDS=${SECONDS}`);
    const cluster = await startDurableCluster();
    onTestFinished(() => cluster.stop());
    const report = await soak(cluster, { seed: SEED, durationMs: SECONDS * 1_000, log });
    log(JSON.stringify({ ...report, violations: report.violations.length }, undefined, 1));
    expect(report.violations.slice(0, 20), `seed ${SEED}, history in ${report.historyPath}`).toEqual([]);
    expect(report.heapGrowth).toBeLessThan(MAX_HEAP_GROWTH_MIB);
    const { lock = 0, limit = 0, order = 0, session = 0, purge = 0, job = 0, counter = 0 } = report.counts;
    // Each load has run; how often depends on the machine.
    expect(
      Math.min(lock, limit, order, session, purge, job, counter),
      JSON.stringify(report.counts),
    ).toBeGreaterThan(0);
    // Keys of sessions and orders stay for a while, those of the other loads are few.
    expect(report.keys).toBeLessThan(100 + 3 * (session + order));
    await rm(dirname(report.historyPath), { recursive: true, force: true });
  });
});
