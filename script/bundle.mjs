import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** How each module is compiled. Dependencies stay imports of their packages. */
export const BUNDLE = {
  absWorkingDir: ROOT,
  bundle: true,
  packages: 'external',
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  logLevel: 'error',
};

/**
 * Compiles modules of `src/`, by default `index.ts` alone, into a directory. Each gets a file, and what several of them
 * share is in further files.
 */
export async function bundle(directory, modules = ['src/index.ts']) {
  await build({
    ...BUNDLE,
    entryPoints: modules,
    outdir: directory,
    outbase: 'src',
    splitting: modules.length > 1,
  });
}
