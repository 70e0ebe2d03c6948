import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bundle } from '../../script/bundle.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface CompiledKit {
  /** The URL of the compiled module. */
  readonly url: string;
  remove(): Promise<void>;
}

/** Bundles the sources into a directory from which their dependencies can be resolved. */
export async function compileKit(): Promise<CompiledKit> {
  await mkdir(join(ROOT, '.cache'), { recursive: true });
  const directory = await mkdtemp(join(ROOT, '.cache', 'kit-'));
  await bundle(directory);
  return {
    url: pathToFileURL(join(directory, 'index.js')).href,
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
