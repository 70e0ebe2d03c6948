import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { bundle } from '../../script/bundle.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface CompiledKit {
  /** The URL of the compiled module. */
  readonly url: string;
  /** A file for TSX_TSCONFIG_PATH, with which `redis-kit` is the compiled module. */
  readonly tsconfig: string;
  remove(): Promise<void>;
}

/** Compiles the sources into a directory from which their dependencies can be resolved. */
export async function compileKit(): Promise<CompiledKit> {
  await mkdir(join(ROOT, '.cache'), { recursive: true });
  const directory = await mkdtemp(join(ROOT, '.cache', 'kit-'));
  await bundle(directory);
  const tsconfig = join(directory, 'tsconfig.json');
  const paths = { 'redis-kit': [join(directory, 'index.js')] };
  await writeFile(tsconfig, JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: { paths } }));
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    tsconfig,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Adds the declarations to the directory of a compiled kit. */
export async function compileDeclarations({ url }: CompiledKit): Promise<void> {
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const outDir = fileURLToPath(new URL('.', url));
  const command = [compiler, '-p', 'tsconfig.build.json', '--outDir', outDir];
  // Type errors do not matter here; another check reports them.
  await promisify(execFile)(process.execPath, command, { cwd: ROOT }).catch(() => undefined);
}
