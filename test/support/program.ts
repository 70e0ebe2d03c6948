import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { inject, onTestFinished } from 'vitest';

/** A program that runs in a process of its own. */
export interface Program {
  readonly process: ChildProcess;
  /** Resolves when it has ended: its exit code, and all that it said. */
  readonly ended: Promise<{ readonly code: unknown; readonly said: string }>;
  /** Resolves to the next line that it says. */
  line(): Promise<string>;
}

/**
 * Starts JavaScript that finds `createRedisKit`; it is killed with the test at the latest. It runs on the compiled sources,
 * which takes half of the time to start, unless it imports others of our files.
 */
export function startProgram(source: string): Program {
  const needsSources = /'\.\/(src|test)\//.test(source);
  const kit = needsSources ? './src/index.ts' : inject('compiledKit');
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
