import { type ChildProcess, fork, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { inject, onTestFinished } from 'vitest';
import { BUNDLE } from '../../script/bundle.mjs';

/** A program that runs in a separate process. */
export interface Program {
  readonly process: ChildProcess;
  /** Resolves when it has ended: the exit code and all output. */
  readonly ended: Promise<{ readonly code: unknown; readonly said: string }>;
  /** Resolves to the next line of its output. */
  line(): Promise<string>;
}

/**
 * Runs JavaScript that can use `createRedisKit` in a process that is killed with the test. It uses the compiled sources,
 * which start in half of the time, unless it imports other files of the project.
 */
export function startProgram(source: string): Program {
  const needsSources = /'\.\/(src|test)\//.test(source);
  const kit = needsSources ? './src/index.ts' : inject('compiledKit').url;
  const program = `import { createRedisKit } from '${kit}';\n${source}`;
  const loader = needsSources ? ['--import', 'tsx'] : [];
  const child = spawn(process.execPath, [...loader, '--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  let said = '';
  let heard = 0;
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
  }
  const ended = once(child, 'close').then(([code]) => ({ code, said: said.trim() }));
  return {
    process: child,
    ended,
    async line() {
      let end = said.indexOf('\n', heard);
      while (end === -1) {
        const next = await Promise.race([once(child.stdout, 'data'), ended]);
        if ('code' in next) throw new Error(`the program ended early and said: ${next.said}`);
        end = said.indexOf('\n', heard);
      }
      const line = said.slice(heard, end);
      heard = end + 1;
      return line;
    },
  };
}

/**
 * Compiles a program in TypeScript: a source, or a file of the project. `redis-kit` is the compiled kit in it. Returns the
 * compiled file, which is removed after the run. Such a program starts several times faster than one that tsx runs.
 */
export async function compileProgram(
  program: { readonly source: string } | { readonly file: string },
): Promise<string> {
  const { url } = inject('compiledKit');
  const outfile = fileURLToPath(new URL(`programs/${randomUUID()}.mjs`, url));
  await build({
    ...BUNDLE,
    ...('file' in program
      ? { entryPoints: [program.file] }
      : { stdin: { contents: program.source, resolveDir: BUNDLE.absWorkingDir, loader: 'ts' } }),
    outfile,
    plugins: [
      {
        name: 'the compiled kit',
        setup: ({ onResolve }) => onResolve({ filter: /^redis-kit$/ }, () => ({ path: url, external: true })),
      },
    ],
  });
  return outfile;
}

/**
 * Runs a file of the project in one process for each list of arguments. Resolves when each process has sent a message, and
 * rejects if one ends before.
 */
export async function startWorkers(
  file: string,
  argumentLists: readonly (readonly string[])[],
): Promise<readonly ChildProcess[]> {
  const program = await compileProgram({ file });
  const start = async (args: readonly string[]) => {
    const worker = fork(program, args);
    const ended = once(worker, 'exit').then(([code]) => {
      throw new Error(`a worker exited with ${String(code)}`);
    });
    await Promise.race([once(worker, 'message'), ended]);
    return worker;
  };
  return Promise.all(argumentLists.map(start));
}

/** The environment of a program that tsx runs, in which `redis-kit` is the compiled kit, which starts faster. */
export function compiledKitEnv(): NodeJS.ProcessEnv {
  return { ...process.env, TSX_TSCONFIG_PATH: inject('compiledKit').tsconfig };
}
