#!/usr/bin/env node
// What `npm test` runs: the vitest suite on whatever Redis is there. Its last line is the plain count, `N passed, N
// failed`; its arguments go on to vitest. With --find-redis it only says which Redis that would be,
// or nothing where there is none. With --full it runs the suite once per version of Node.js and per server.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tsImport } from 'tsx/esm/api';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs');

const { describeProvider, findRedisProvider, NO_REDIS } = await tsImport(
  '../test/support/redis-provider.ts',
  import.meta.url,
);
const { parseTestArguments, testRuns } = await tsImport('../test/support/test-runs.ts', import.meta.url);

const provider = await findRedisProvider();
const { isFull, mustFindRedis, vitestArgs } = parseTestArguments(process.argv.slice(2));
if (mustFindRedis) {
  if (provider !== undefined) console.log(describeProvider(provider));
  process.exit(0);
}

if (provider === undefined) console.error(NO_REDIS);
else console.log(`Redis for the tests: ${describeProvider(provider)}`);
const counts = provider === undefined ? [count({ exitCode: 1 })] : await runAll();
const total = counts.reduce((sum, each) => ({
  passed: sum.passed + each.passed,
  failed: sum.failed + each.failed,
  skipped: sum.skipped + each.skipped,
}));
console.log(lineOf(total));
// A Docker engine that never answered may still hold a socket open, hence no waiting for the end.
process.exit(total.failed > 0 ? 1 : 0);

async function runAll() {
  const skipped = [];
  const runs = await testRuns({ isFull, env: process.env, report: (line) => skipped.push(line) });
  const counts = [];
  const lines = [];
  for (const run of runs) {
    if (isFull) console.log(`\nThe suite on ${run.name}`);
    const counted = count(await runVitest(run, vitestArgs));
    counts.push(counted);
    lines.push(`${run.name}: ${lineOf(counted)}`);
  }
  if (isFull) console.log(['', ...skipped, ...lines].join('\n'));
  return counts;
}

function lineOf({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/** Runs vitest in a process of its own, so that whatever happens to it is counted. */
async function runVitest({ node, env }, args) {
  const directory = await mkdtemp(join(tmpdir(), 'redis-kit-report-'));
  const reportPath = join(directory, 'report.json');
  const hasReporter = args.some((argument) => argument.startsWith('--reporter'));
  const reporters = [...(hasReporter ? [] : ['--reporter=default']), '--reporter=json'];
  try {
    const command = [VITEST, 'run', ...reporters, `--outputFile.json=${reportPath}`, ...args];
    const vitest = spawn(node, command, { cwd: ROOT, env, stdio: 'inherit' });
    const pass = (signal) => vitest.kill(signal);
    for (const signal of SIGNALS) process.on(signal, pass);
    const [exitCode] = await once(vitest, 'exit');
    for (const signal of SIGNALS) process.off(signal, pass);
    return { exitCode: exitCode ?? 1, report: await readReport(reportPath) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function readReport(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    console.error(`vitest left no report: ${error.message}`);
    return undefined;
  }
}

/** A run that failed otherwise than in a test (a file that does not load, a teardown, no test at all) counts as one. */
function count({ exitCode, report }) {
  if (report === undefined) return { passed: 0, failed: 1, skipped: 0 };
  const passed = report.numPassedTests;
  const skipped = report.numPendingTests + report.numTodoTests;
  const brokenFiles = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.every((test) => test.status !== 'failed'),
  );
  const failed = report.numFailedTests + brokenFiles.length;
  const isOtherFailure = failed === 0 && (exitCode !== 0 || passed === 0);
  return { passed, failed: isOtherFailure ? 1 : failed, skipped };
}
