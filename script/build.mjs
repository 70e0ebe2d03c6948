#!/usr/bin/env node
// Builds the package: dist/index.js with all modules, and their declarations beside it. One file loads several times
// faster than one file per module.
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { bundle } from './bundle.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');

await rm(DIST, { recursive: true, force: true });
const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
const declarations = promisify(execFile)(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
  cwd: ROOT,
});
const results = await Promise.allSettled([bundle(DIST), declarations]);
for (const { reason } of results) {
  if (reason === undefined) continue;
  console.error(reason.stdout || reason.message);
  process.exitCode = 1;
}
