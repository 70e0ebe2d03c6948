import {
  bareOf,
  type Metric,
  metricOf,
  type NodeRun,
  peerOf,
  type Results,
  type RowResult,
  ratioOf,
  type ServerResult,
} from './results.ts';
import type { GrowthMetric } from './row.ts';
import { countsOperations, growths, OPERATIONS_AT_ONCE } from './rows/index.ts';
import type { Spread } from './statistics.ts';

type Cell = (server: ServerResult, row: RowResult) => string;
type Column = readonly [title: string, cell: Cell];

const toBare =
  (metric: Metric): Cell =>
  (server, row) =>
    ratioCell(server, bareOf(row), metric);

const toPeer =
  (metric: Metric): Cell =>
  (server, row) =>
    server.kind === 'kit' ? ratioCell(server, peerOf(row), metric) : '';

const commands: Column = ['commands', (server) => number(server.commands, 2)];
const p99: Column = ['p99, ms', (server) => number(metricOf(server, 'p99Ms').median, 1)];

const ROW_COLUMNS: readonly Column[] = [
  ['CPU, to bare', (server, row) => toBare('cpuMicros')(server, row) + failures(server)],
  ['CPU, to the peer', toPeer('cpuMicros')],
  ['CPU, µs', (server) => number(metricOf(server, 'cpuMicros').median, 1)],
  ['requests per second', (server) => number(metricOf(server, 'perSecond').median)],
  ['requests per second, to the peer', toPeer('perSecond')],
  ['p50, ms', (server) => number(metricOf(server, 'p50Ms').median, 2)],
  p99,
  commands,
];

const REDIS_COLUMNS: readonly Column[] = [
  ['Redis CPU, µs', (server) => spreadCell(metricOf(server, 'redisMicros'), 1)],
  ['in scripts, µs', (server) => spreadCell(metricOf(server, 'scriptMicros'), 1)],
  ['Redis CPU, to the peer', toPeer('redisMicros')],
  commands,
];

/** For rows whose requests run several operations. */
const OPERATION_COLUMNS: readonly Column[] = [
  ['operations per second', (server) => number(metricOf(server, 'perSecond').median * OPERATIONS_AT_ONCE)],
  ['operations per second, to the peer', toPeer('perSecond')],
  ['CPU, µs', (server) => number(metricOf(server, 'cpuMicros').median / OPERATIONS_AT_ONCE, 1)],
  ['Redis CPU, µs', (server) => number(metricOf(server, 'redisMicros').median / OPERATIONS_AT_ONCE, 1)],
  ['commands', (server) => number(server.commands / OPERATIONS_AT_ONCE, 2)],
];

const DELAY_COLUMNS: readonly Column[] = [
  ['p50, ms', (server) => spreadCell(metricOf(server, 'p50Ms'), 1)],
  ['p50, to one command', toBare('p50Ms')],
  p99,
  commands,
];

const GROWTH_COLUMNS: Readonly<Record<GrowthMetric, Column>> = {
  cpu: ['CPU, to bare', (server, row) => number(medianToBare(server, row), 2) + failures(server)],
  redis: ['Redis CPU, µs', (server) => number(metricOf(server, 'redisMicros').median, 1)],
  bytes: ['bytes of a key', (server) => number(server.keyBytes ?? 0)],
  perSecond: ['requests per second', (server) => number(metricOf(server, 'perSecond').median)],
  msEach: ['ms for one grant', (server) => number(1_000 / metricOf(server, 'perSecond').median, 2)],
  commands,
};

/** The tables of RESULTS.md, by the names of their places. */
export function tablesOf(results: Results): Readonly<Record<string, string>> {
  const measured = results.runs[0]?.rows ?? [];
  const named = (...names: readonly string[]) => measured.filter(({ name }) => names.includes(name));
  return {
    run: runLines(results),
    rows: rowTable(
      measured.filter(({ name }) => !name.includes('@') && name !== 'delayed' && !countsOperations(name)),
      ROW_COLUMNS,
    ),
    nodes: nodeTable(results.runs),
    redis: rowTable(named('limit', 'reserve'), REDIS_COLUMNS),
    documents: rowTable(
      measured
        .filter(({ name }) => countsOperations(name))
        .map((row) => ({ ...row, servers: row.servers.filter(({ kind }) => kind !== 'bare') })),
      OPERATION_COLUMNS,
    ),
    delay: rowTable(named('delayed'), DELAY_COLUMNS),
    growth: Object.keys(growths)
      .map((name) => growthTables(name, measured))
      .filter((tables) => tables !== '')
      .join('\n\n'),
  };
}

/** Replaces the text between `<!-- name -->` and `<!-- /name -->`. */
export function fillIn(page: string, tables: Readonly<Record<string, string>>): string {
  return Object.entries(tables).reduce(
    (text, [name, table]) =>
      text.replace(new RegExp(`(<!-- ${name} -->\n).*?(<!-- /${name} -->)`, 's'), (_, begin, end) =>
        [begin, table, '', end].join('\n'),
      ),
    page,
  );
}

function runLines({ date, machine, redis, peers, rounds, seconds, runs }: Results): string {
  const nodes = runs.map(({ node }) => node).join(', ');
  const versions = Object.entries(peers).map(([name, version]) => `${name} ${version}`);
  return [
    `- ${date}, Node.js ${nodes}, Redis ${redis}, ${machine}`,
    `- ${rounds} rounds of ${seconds} s for each server`,
    `- ${versions.join(', ')}`,
  ].join('\n');
}

function rowTable(rows: readonly RowResult[], columns: readonly Column[]): string {
  const blank = columns.map(() => '');
  return table(
    ['', ...columns.map(([title]) => title)],
    rows.flatMap((row) => [
      [`**${row.title}** (\`${row.name}\`)`, ...blank],
      ...row.servers.map((server) => [server.name, ...columns.map(([, cell]) => cell(server, row))]),
    ]),
  );
}

/** The CPU ratios of redis-kit on each version of Node.js. */
function nodeTable(runs: readonly NodeRun[]): string {
  const columns = runs.flatMap(({ node }) => [`Node ${node}, to bare`, 'to the peer']);
  const lines = (runs[0]?.rows ?? [])
    .filter(
      ({ name }) =>
        runs.every(({ rows }) => rows.some((row) => row.name === name)) &&
        !name.includes('@') &&
        !countsOperations(name),
    )
    .flatMap(({ name, servers }) =>
      servers
        .filter(({ kind }) => kind === 'kit')
        .map((server) => [
          `${name}: ${server.name}`,
          ...runs.flatMap((run) => ratiosOn(run, name, server.name)),
        ]),
    );
  return table(['', ...columns], lines);
}

function ratiosOn({ rows }: NodeRun, name: string, serverName: string): readonly string[] {
  const row = rows.find((each) => each.name === name);
  const server = row?.servers.find((each) => each.name === serverName);
  if (row === undefined || server === undefined) return ['', ''];
  return [toBare('cpuMicros')(server, row), toPeer('cpuMicros')(server, row)];
}

/** One table for each metric: a line for each server, a column for each point. */
function growthTables(name: string, measured: readonly RowResult[]): string {
  const growth = growths[name];
  const rows = measured.filter((row) => row.name.startsWith(`${name}@`));
  if (growth === undefined || rows.length === 0) return '';
  const names = new Set(rows.flatMap(({ servers }) => servers.slice(1).map((server) => server.name)));
  const tables = growth.shows.map((metric) => {
    const [title, cell] = GROWTH_COLUMNS[metric];
    const points = rows.map((row) => number(Number(row.name.split('@')[1])));
    const lines = [...names].map((serverName) => [
      serverName,
      ...rows.map((row) => {
        const server = row.servers.find((each) => each.name === serverName);
        return server === undefined ? '' : cell(server, row);
      }),
    ]);
    return table([`${title}; ${growth.of}:`, ...points], lines);
  });
  return [`### ${growth.title}`, ...tables].join('\n\n');
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...lines.map(line)].join('\n');
}

function medianToBare(server: ServerResult, row: RowResult): number {
  const bare = bareOf(row);
  return bare === undefined ? Number.NaN : ratioOf(server, bare, 'cpuMicros').median;
}

function ratioCell(server: ServerResult, other: ServerResult | undefined, metric: Metric): string {
  if (other === undefined) return '';
  return server === other ? '1' : spreadCell(ratioOf(server, other, metric), 2);
}

function spreadCell({ median, from, to }: Spread, digits: number): string {
  return `${number(median, digits)} (${number(from, digits)} to ${number(to, digits)})`;
}

function failures(server: ServerResult): string {
  const share = metricOf(server, 'failed').median;
  return share === 0 ? '' : `, ${number(share * 100, 1)} % failed`;
}

function number(value: number, digits = 0): string {
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
