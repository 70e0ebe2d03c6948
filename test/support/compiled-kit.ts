import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface CompiledKit {
  /** The URL of the compiled module. */
  readonly url: string;
  remove(): Promise<void>;
}

/** Compiles the sources into a directory from which their dependencies can be resolved. */
export async function compileKit(): Promise<CompiledKit> {
  await mkdir(join(ROOT, '.cache'), { recursive: true });
  const directory = await mkdtemp(join(ROOT, '.cache', 'kit-'));
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const command = [compiler, '-p', 'tsconfig.build.json', '--outDir', directory];
  // Type errors do not matter here; another check reports them.
  await promisify(execFile)(process.execPath, command, { cwd: ROOT }).catch(() => undefined);
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
