import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { Plugin } from 'vitest/config';
import { bundle } from '../../script/bundle.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = join(ROOT, 'src');
const CACHE = join(ROOT, '.cache');

export interface CompiledKit {
  /** The URL of the compiled module. */
  readonly url: string;
  /** A file for TSX_TSCONFIG_PATH, with which `redis-kit` is the compiled module. */
  readonly tsconfig: string;
  remove(): Promise<void>;
}

/** Compiles the sources into a directory from which their dependencies can be resolved. */
export async function compileKit(): Promise<CompiledKit> {
  await mkdir(CACHE, { recursive: true });
  const directory = await mkdtemp(join(CACHE, 'kit-'));
  await bundle(directory);
  return describeKit(directory);
}

async function describeKit(directory: string): Promise<CompiledKit> {
  const tsconfig = join(directory, 'tsconfig.json');
  const paths = { 'redis-kit': [join(directory, 'index.js')] };
  await writeFile(tsconfig, JSON.stringify({ extends: '../../tsconfig.json', compilerOptions: { paths } }));
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    tsconfig,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Imports a second copy of a module of `src/`, with a copy of each module that it imports. */
export async function importCopy<Module>(path: string): Promise<Module> {
  await mkdir(CACHE, { recursive: true });
  const directory = await mkdtemp(join(CACHE, 'copy-'));
  try {
    await bundle(directory, [path]);
    const file = join(directory, relative('src', path).replace(/\.ts$/, '.js'));
    return (await import(pathToFileURL(file).href)) as Module;
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The compiled sources of this run of vitest. */
const runDirectory = join(CACHE, `run-${process.pid}`);
let compiling: Promise<void> | undefined;

export function describeKitOfRun(): Promise<CompiledKit> {
  return describeKit(runDirectory);
}

/**
 * Makes tests import compiled sources, which Node.js loads several times faster than vitest loads the more than 300 modules
 * of `src/`. Without the command `run`, vitest watches the sources, and tests import them.
 */
export function compiledSources(): Plugin {
  const isWatching = !process.argv.includes('run');
  return {
    name: 'redis-kit: compiled sources',
    enforce: 'pre',
    // Called for each project of vitest.
    async configResolved() {
      compiling ??= importedModules().then((modules) => bundle(runDirectory, modules));
      await compiling;
    },
    resolveId(source, importer) {
      if (isWatching || importer === undefined) return undefined;
      const name = relative(SOURCES, resolve(dirname(importer), source));
      if (name.startsWith('..')) return undefined;
      const id = join(runDirectory, name.replace(/\.ts$/, '.js'));
      // A source beside the compiled ones would be a second copy of the kit.
      if (!existsSync(id))
        throw new Error(`${importer} imports ${source}, which was not compiled for this run`);
      return { id, external: true };
    },
  };
}

/** The modules of `src/` that tests import. */
async function importedModules(): Promise<readonly string[]> {
  const files = await readdir(join(ROOT, 'test'), { recursive: true });
  const texts = await Promise.all(
    files.filter((file) => file.endsWith('.ts')).map((file) => readFile(join(ROOT, 'test', file), 'utf8')),
  );
  const paths = texts.flatMap((text) => [...text.matchAll(/'(?:\.\.\/)+(src\/[\w/-]+\.ts)'/g)]);
  return [...new Set(paths.map(([, path = '']) => path))];
}

/** Adds the declarations to the directory of a compiled kit. */
export async function compileDeclarations({ url }: CompiledKit): Promise<void> {
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const outDir = fileURLToPath(new URL('.', url));
  const command = [compiler, '-p', 'tsconfig.build.json', '--outDir', outDir];
  // Type errors do not matter here; another check reports them.
  await promisify(execFile)(process.execPath, command, { cwd: ROOT }).catch(() => undefined);
}
