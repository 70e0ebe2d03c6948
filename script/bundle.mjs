import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Puts all modules of `src/` into `index.js` in a directory. Dependencies stay imports of their packages. */
export async function bundle(directory) {
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/index.ts'],
    outdir: directory,
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    logLevel: 'error',
  });
}
