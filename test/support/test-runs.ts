import { delimiter } from 'node:path';
import { findNodes, type NodeBinary } from '../../bench/nodes.ts';
import { isExecutableFile } from './redis-provider.ts';

/** One run of the test suite by vitest. */
export interface TestRun {
  readonly name: string;
  /** The binary of Node.js. */
  readonly node: string;
  readonly env: NodeJS.ProcessEnv;
}

interface RunsOptions {
  readonly isFull: boolean;
  readonly env: NodeJS.ProcessEnv;
  /** Receives one line for each run that is skipped. */
  report(line: string): void;
  /** Default: the running Node.js, and npm packages. */
  find?(versions: string, report: (line: string) => void): Promise<readonly NodeBinary[]>;
}

const NODE_VERSIONS = '22,24,26';

/** Separates the arguments of script/run-tests.mjs from those of vitest. */
export function parseTestArguments(args: readonly string[]) {
  const own = ['--full', '--find-redis'];
  return {
    isFull: args.includes('--full'),
    mustFindRedis: args.includes('--find-redis'),
    vitestArgs: args.filter((arg) => !own.includes(arg)),
  };
}

/**
 * The runs of script/test: one. With `--full` also one per version of Node.js, and one per server in `REDIS_SERVERS`, a
 * list of binaries that is separated as `PATH` is.
 */
export async function testRuns({
  isFull,
  env,
  report,
  find = findNodes,
}: RunsOptions): Promise<readonly TestRun[]> {
  const name = `Node ${process.versions.node}`;
  const node = process.execPath;
  if (!isFull) return [{ name, node, env }];
  const full: NodeJS.ProcessEnv = { ...env, REDIS_KIT_TESTS: 'full' };
  const nodes = (await find(NODE_VERSIONS, report)).filter(({ path }) => path !== node);
  const servers = (env.REDIS_SERVERS ?? '').split(delimiter).filter((path) => path !== '');
  if (servers.length === 0) report('REDIS_SERVERS is not set, so no other server is tested');
  const usable = servers.filter((path) => {
    const isUsable = isExecutableFile(path);
    if (!isUsable) report(`${path} of REDIS_SERVERS is no executable file, and is skipped`);
    return isUsable;
  });
  return [
    { name, node, env: full },
    ...nodes.map(({ version, path }) => ({ name: `Node ${version}`, node: path, env: full })),
    ...usable.map((path) => {
      const { REDIS_URL: _, ...rest } = full;
      return { name: path, node, env: { ...rest, REDIS_SERVER: path } };
    }),
  ];
}
