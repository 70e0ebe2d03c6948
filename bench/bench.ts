/* Measures the rows and how costs grow, and writes the results. README.md describes the options. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chartOf } from './chart.ts';
import type { LoadOrder, LoadReport } from './load.ts';
import { type Bench, measureRow } from './measure.ts';
import { findNodes } from './nodes.ts';
import { Redis } from './redis.ts';
import { fillIn, tablesOf } from './report.ts';
import { type NodeRun, type Results, resultsOf } from './results.ts';
import { growths, rows } from './rows/index.ts';
import { Worker } from './worker.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

const { values: options } = parseArgs({
  options: {
    node: { type: 'string' },
    rows: { type: 'string' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    out: { type: 'string', default: join(FOLDER, 'results') },
    quick: { type: 'boolean', default: false },
    publish: { type: 'boolean', default: false },
  },
});

const rounds = Number(options.rounds ?? (options.quick ? 3 : 7));
const seconds = Number(options.seconds ?? (options.quick ? 0.4 : 0.7));
const beganAt = performance.now();

function report(line: string): void {
  const elapsed = Math.floor((performance.now() - beganAt) / 1_000);
  console.log(`${Math.floor(elapsed / 60)}:${String(elapsed % 60).padStart(2, '0')}  ${line}`);
}

/** A quick run takes the first half of the points. */
const growthRows = Object.entries(growths).flatMap(([name, { points }]) =>
  points
    .slice(0, options.quick ? Math.ceil(points.length / 2) : undefined)
    .map((point) => `${name}@${point}`),
);

function isSelected(name: string): boolean {
  return options.rows?.split(',').includes(name.split('@')[0] ?? '') ?? true;
}

function write(results: Results): void {
  const tables = tablesOf(results);
  mkdirSync(options.out, { recursive: true });
  writeFileSync(join(options.out, 'results.json'), JSON.stringify(results, null, 1));
  writeFileSync(join(options.out, 'tables.md'), `${Object.values(tables).join('\n\n')}\n`);
  for (const run of results.runs) writeFileSync(join(options.out, `node-${run.node}.svg`), chartOf(run));
  if (!options.publish || results.runs[0] === undefined) return;
  const page = join(FOLDER, 'RESULTS.md');
  writeFileSync(page, fillIn(readFileSync(page, 'utf8'), tables));
  writeFileSync(join(FOLDER, 'chart.svg'), chartOf(results.runs[0]));
}

/** A server or a row that fails is reported, and the run goes on. */
async function measureAll(bench: Omit<Bench, 'node' | 'rounds'>, redisVersion: string): Promise<void> {
  const runs: NodeRun[] = [];
  for (const { version, path } of await findNodes(options.node, report)) {
    const run: NodeRun = { node: version, rows: [] };
    runs.push(run);
    const names = [...Object.keys(rows), ...(runs.length === 1 ? growthRows : [])].filter(isSelected);
    for (const [index, name] of names.entries()) {
      report(`Node ${version}, row ${index + 1} of ${names.length}: ${name}`);
      // Growth shows in steps of ten, so that fewer rounds are enough.
      const roundsOfRow = name.includes('@') ? Math.ceil(rounds / 4) : rounds;
      const row = await measureRow(name, { ...bench, node: path, rounds: roundsOfRow });
      for (const failure of row.failures) report(`  not measured: ${failure}`);
      if (row.failures.length > 0) process.exitCode = 1;
      run.rows.push(row);
      write(resultsOf(redisVersion, rounds, seconds, runs));
    }
  }
  report(`The results are in ${options.out}`);
}

const redis = await Redis.start();
const { worker: load } = await Worker.start<LoadOrder, LoadReport>(['load.ts']);
try {
  await measureAll({ redis, load, seconds, report }, await redis.version());
} finally {
  await load.stop();
  await redis.stop();
}
