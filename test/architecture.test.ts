import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Low to high. An import goes to a lower floor, or stays within its own folder. */
const FLOORS = [
  'base',
  'operations',
  'http',
  'engine',
  'connection',
  'room core',
  'room face',
  'kit',
  'index',
] as const;

const ROOMS = ['rate-limit', 'session', 'cache', 'lock', 'idempotency', 'concurrency'] as const;

interface Import {
  readonly from: string;
  readonly to: string;
  readonly isTypeOnly: boolean;
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.replaceAll('\\', '/'))
  .sort();

const imports = files.flatMap((file) => importsOf(file));
const inside = imports.filter(({ to }) => to.endsWith('.ts'));
const outside = imports.filter(({ to }) => !to.endsWith('.ts'));

function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), 'utf8');
  const statements = text.matchAll(
    /^(?:import|export)\s([^;]*?)\bfrom\s+'([^']+)'|^import\s+'([^']+)'|\bimport\('([^']+)'\)/gm,
  );
  return [...statements].map(([, clause = '', named, bare, dynamic]) => {
    const target = named ?? bare ?? dynamic ?? '';
    const to = target.startsWith('.') ? relative(SRC, join(SRC, dirname(file), target)) : target;
    return { from: file, to, isTypeOnly: clause.startsWith('type ') };
  });
}

function folderOf(file: string): string {
  return file.includes('/') ? (file.split('/')[0] ?? '') : '';
}

function floorOf(file: string): number {
  const folder = folderOf(file);
  const name = file.slice(folder.length).replace(/^\//, '');
  if (ROOMS.some((room) => room === folder)) {
    return FLOORS.indexOf(name === 'middleware.ts' || name === 'index.ts' ? 'room face' : 'room core');
  }
  if (folder === '') return FLOORS.indexOf(name === 'index.ts' ? 'index' : 'kit');
  return (FLOORS as readonly string[]).indexOf(folder);
}

describe('the house', () => {
  it('has no file that belongs to no floor', () => {
    expect(files.filter((file) => floorOf(file) === -1)).toEqual([]);
    expect(files.length).toBeGreaterThan(40);
    expect(inside.length).toBeGreaterThan(100);
  });

  it('has no import that goes up or sideways', () => {
    const wrong = inside.filter(({ from, to }) => {
      const isWithin = folderOf(from) === folderOf(to);
      return isWithin ? floorOf(to) > floorOf(from) : floorOf(to) >= floorOf(from);
    });
    expect(wrong).toEqual([]);
  });

  it('has rooms that do not know each other', () => {
    const isRoom = (file: string) => ROOMS.some((room) => room === folderOf(file));
    const wrong = inside.filter(
      ({ from, to }) => isRoom(from) && isRoom(to) && folderOf(from) !== folderOf(to),
    );
    expect(wrong).toEqual([]);
  });

  it('is entered through the door of a room from above', () => {
    const wrong = inside.filter(
      ({ from, to }) =>
        ROOMS.some((room) => room === folderOf(to)) &&
        folderOf(from) !== folderOf(to) &&
        !to.endsWith('/index.ts'),
    );
    expect(wrong).toEqual([]);
  });

  it('has no circle of imports', () => {
    const circles = files.filter((file) => reachableFrom(file).has(file));
    expect(circles).toEqual([]);
  });

  it('has no file over 300 lines', () => {
    const long = files.filter((file) => readFileSync(join(SRC, file), 'utf8').split('\n').length - 1 > 300);
    expect(long).toEqual([]);
  });

  it('imports the redis package only in the connection room, and its types in the kit', () => {
    const wrong = outside.filter(
      ({ from, to, isTypeOnly }) =>
        to === 'redis' && folderOf(from) !== 'connection' && !(from === 'kit.ts' && isTypeOnly),
    );
    expect(wrong).toEqual([]);
  });

  it('knows Express only in http, in the session room that builds on express-session, and as a type', () => {
    const wrong = outside.filter(({ from, to, isTypeOnly }) => {
      if (to === 'express') return folderOf(from) !== 'http' || !isTypeOnly;
      return to === 'express-session' && folderOf(from) !== 'session';
    });
    expect(wrong).toEqual([]);
  });

  it('depends on what package.json names and on nothing else', () => {
    const manifest = JSON.parse(readFileSync(join(SRC, '../package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const named = outside.map(({ to }) => to).filter((to) => !to.startsWith('node:'));
    const known = [...Object.keys(manifest.dependencies), 'express'];
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  });

  it('spells keys in base/keys.ts only', () => {
    const spelled = files.filter((file) => {
      const text = readFileSync(join(SRC, file), 'utf8').replace(/^\s*(?:\/\/|\/?\*).*$/gm, '');
      return file !== 'base/keys.ts' && /[`'"][^`'"\n]*:\{/.test(text);
    });
    expect(spelled).toEqual([]);
  });
});

function reachableFrom(start: string): Set<string> {
  const seen = new Set<string>();
  const queue = [start];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    for (const { to } of inside.filter((each) => each.from === file)) {
      if (!seen.has(to)) queue.push(to);
      seen.add(to);
    }
  }
  return seen;
}
