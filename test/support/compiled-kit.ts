import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface CompiledKit {
  /** The address of its module. */
  readonly url: string;
  remove(): Promise<void>;
}

/** Compiles the sources into a directory from which they find their dependencies. */
export async function compileKit(): Promise<CompiledKit> {
  await mkdir(join(ROOT, '.cache'), { recursive: true });
  const directory = await mkdtemp(join(ROOT, '.cache', 'kit-'));
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const command = [compiler, '-p', 'tsconfig.build.json', '--outDir', directory];
  // Sources with errors in their types are compiled all the same; the check of types is another one.
  await promisify(execFile)(process.execPath, command, { cwd: ROOT }).catch(() => undefined);
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
