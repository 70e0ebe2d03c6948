import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import type { ServerKind } from './rows/index.ts';
import { type Spread, spreadOf } from './statistics.ts';

/** The file with the results of a run. */
export interface Results {
  readonly date: string;
  readonly machine: string;
  readonly redis: string;
  readonly peers: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly seconds: number;
  readonly runs: readonly NodeRun[];
}

/** The rows on one version of Node.js; the growth of costs is measured on the first version only. */
export interface NodeRun {
  readonly node: string;
  readonly rows: RowResult[];
}

export interface RowResult {
  readonly name: string;
  readonly title: string;
  readonly servers: readonly ServerResult[];
  /** Servers that could not be measured, and why. */
  readonly failures: readonly string[];
}

export interface ServerResult {
  readonly name: string;
  readonly kind: ServerKind;
  readonly rounds: readonly Sample[];
  /** Commands per request, without the calls inside scripts. */
  readonly commands: number;
  readonly keyBytes: number | undefined;
}

/** One round of one server; times of the CPU are for one request. */
export interface Sample {
  readonly cpuMicros: number;
  readonly redisMicros: number;
  readonly scriptMicros: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The share of responses with another status than the expected one. */
  readonly failed: number;
}

export type Metric = keyof Sample;

export function resultsOf(redis: string, rounds: number, seconds: number, runs: readonly NodeRun[]): Results {
  const { dependencies }: { dependencies: Record<string, string> } = JSON.parse(
    readFileSync(new URL('package.json', import.meta.url), 'utf8'),
  );
  const { 'redis-kit': _, ...peers } = dependencies;
  const [first] = cpus();
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} × ${first?.model.trim() ?? 'unknown CPU'}`,
    redis,
    peers,
    rounds,
    seconds,
    runs,
  };
}

export function bareOf({ servers }: RowResult): ServerResult | undefined {
  return servers.find(({ kind }) => kind === 'bare');
}

/** The first peer, which the ratios to the peer are for. */
export function peerOf({ servers }: RowResult): ServerResult | undefined {
  return servers.find(({ kind }) => kind === 'peer');
}

interface Measured {
  readonly rounds: readonly Sample[];
}

export function metricOf({ rounds }: Measured, metric: Metric): Spread {
  return spreadOf(rounds.map((round) => round[metric]));
}

/** The ratio in each round, so that a slow moment of the machine affects both sides of it. */
export function ratioOf(server: Measured, other: Measured, metric: Metric): Spread {
  return spreadOf(
    server.rounds.map((round, index) => round[metric] / (other.rounds[index]?.[metric] ?? Number.NaN)),
  );
}
