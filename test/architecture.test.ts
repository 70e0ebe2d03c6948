import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Low to high. An import goes to a lower layer, or stays within its own module. */
const LAYERS: readonly (readonly string[])[] = [
  ['base'],
  ['engine'],
  ['connection', 'waiting', 'http'],
  ['feature core'],
  ['feature face'],
  ['kit'],
  ['index'],
];

const FEATURES = [
  'rate-limit',
  'session',
  'cache',
  'lock',
  'idempotency',
  'concurrency',
  'channels',
  'log',
  'background',
  'state',
  'documents',
  'members',
  'sse',
  'health',
] as const;

/** The modules of the cache: the store knows nothing of HTTP, and responses and values do not know each other. */
const CACHE_MODULES: Readonly<Record<string, readonly string[]>> = {
  'cache/store': ['cache/store'],
  'cache/http': ['cache/http', 'cache/store'],
  'cache/values': ['cache/values', 'cache/store'],
};

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

function isInFeature(file: string): boolean {
  return FEATURES.some((feature) => feature === folderOf(file));
}

function layerOf(file: string): number {
  const indexOf = (name: string) => LAYERS.findIndex((layer) => layer.includes(name));
  if (isInFeature(file)) {
    return indexOf(/\/(?:middleware|feature|index)\.ts$/.test(file) ? 'feature face' : 'feature core');
  }
  const folder = folderOf(file);
  return indexOf(folder === '' ? (file === 'index.ts' ? 'index' : 'kit') : folder);
}

describe('the source tree', () => {
  it('every file of src/ belongs to a layer', () => {
    expect(files.filter((file) => layerOf(file) === -1)).toEqual([]);
    expect(files.length).toBeGreaterThan(40);
    expect(inside.length).toBeGreaterThan(100);
  });

  it('no file imports from a higher layer, or from another module of its own layer', () => {
    const wrong = inside.filter(({ from, to }) => {
      const isWithin = folderOf(from) === folderOf(to);
      return isWithin ? layerOf(to) > layerOf(from) : layerOf(to) >= layerOf(from);
    });
    expect(wrong).toEqual([]);
  });

  it('no feature imports another feature', () => {
    const wrong = inside.filter(
      ({ from, to }) => isInFeature(from) && isInFeature(to) && folderOf(from) !== folderOf(to),
    );
    expect(wrong).toEqual([]);
  });

  it('a higher layer imports a feature only through its index.ts', () => {
    const wrong = inside.filter(
      ({ from, to }) => isInFeature(to) && folderOf(from) !== folderOf(to) && !to.endsWith('/index.ts'),
    );
    expect(wrong).toEqual([]);
  });

  it('within the cache, http and values import only their own files and the store', () => {
    const moduleOf = (file: string) => dirname(file).split('/').slice(0, 2).join('/');
    const wrong = inside.filter(({ from, to }) => {
      const allowed = CACHE_MODULES[moduleOf(from)];
      return allowed !== undefined && folderOf(to) === 'cache' && !allowed.includes(moduleOf(to));
    });
    expect(wrong).toEqual([]);
  });

  it('the cache store imports nothing from http or node:http', () => {
    const wrong = imports.filter(
      ({ from, to }) => from.startsWith('cache/store/') && (folderOf(to) === 'http' || to === 'node:http'),
    );
    expect(wrong).toEqual([]);
  });

  it('no file of src/ imports itself through other files', () => {
    expect(files.filter((file) => reachableFrom(file).has(file))).toEqual([]);
  });

  it('no file of src/ has more than 300 lines', () => {
    const long = files.filter((file) => readFileSync(join(SRC, file), 'utf8').split('\n').length - 1 > 300);
    expect(long).toEqual([]);
  });

  it('no two files export a type of the same name', () => {
    const declared = files.flatMap((file) => {
      const text = readFileSync(join(SRC, file), 'utf8');
      const names = text.matchAll(/^export (?:abstract )?(?:interface|type|class) (\w+)/gm);
      return [...names].map(([, name = '']) => ({ name, file }));
    });
    const twice = declared.filter(({ name }, at) => declared.findIndex((each) => each.name === name) !== at);
    expect(twice).toEqual([]);
  });

  it('the redis package is imported only in the connection module, and its types in the kit', () => {
    const wrong = outside.filter(
      ({ from, to, isTypeOnly }) =>
        to === 'redis' && folderOf(from) !== 'connection' && !(from === 'redis-kit.ts' && isTypeOnly),
    );
    expect(wrong).toEqual([]);
  });

  it('Express is imported only in http, in the session feature that builds on express-session, and as a type', () => {
    const wrong = outside.filter(({ from, to, isTypeOnly }) => {
      if (to === 'express') return folderOf(from) !== 'http' || !isTypeOnly;
      return to === 'express-session' && folderOf(from) !== 'session';
    });
    expect(wrong).toEqual([]);
  });

  it('src/ imports only packages that are dependencies in package.json, and types of Express', () => {
    const manifest = JSON.parse(readFileSync(join(SRC, '../package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    const named = outside.map(({ to }) => to).filter((to) => !to.startsWith('node:'));
    const known = [...Object.keys(manifest.dependencies), 'express'];
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  });

  it('only base/keys.ts contains templates of Redis keys', () => {
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
