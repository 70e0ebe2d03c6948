import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * Compiles modules of `src/`, by default `index.ts` alone, into a directory. Each gets a file, and what several of them
 * share is in further files. Dependencies stay imports of their packages.
 */
export async function bundle(directory, modules = ['src/index.ts']) {
  await build({
    absWorkingDir: ROOT,
    entryPoints: modules,
    outdir: directory,
    outbase: 'src',
    bundle: true,
    splitting: modules.length > 1,
    packages: 'external',
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    logLevel: 'error',
  });
}
