import type { BuildOptions } from 'esbuild';

export const BUNDLE: BuildOptions & { readonly absWorkingDir: string };
export function bundle(directory: string, modules?: readonly string[]): Promise<void>;
