import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { inject, onTestFinished } from 'vitest';

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

/** The environment of a program that tsx runs, in which `redis-kit` is the compiled kit, which starts faster. */
export function compiledKitEnv(): NodeJS.ProcessEnv {
  return { ...process.env, TSX_TSCONFIG_PATH: inject('compiledKit').tsconfig };
}
