import { describe } from '../../base/describe.ts';
import { ConfigError } from '../../base/errors.ts';
import type { Keys } from '../../base/keys.ts';
import { OptionReader } from '../../base/option-reader.ts';
import type { Reporter } from '../../base/reporter.ts';
import { checkTags } from './shared-options.ts';
import { namesOfUrl } from './url-names.ts';
import { ALL, type Versions } from './versions.ts';

/**
 * What is no longer true: everything with one of these tags (a group that a response names in Cache-Groups is one as well),
 * a URL (path and query as a client sends them and the key counts them, of every host and in every variant, with each
 * response that it shares with other URLs by No-Vary-Search), a key of `kit.remember` or of a `key` function, or all.
 */
export type InvalidationTarget = (
  | { readonly tags: string | readonly string[] }
  | { readonly url: string }
  | { readonly key: string }
  | { readonly all: true }
) & {
  /** It becomes stale: sent once more while it is made anew. Default false: it is gone. */
  readonly soft?: boolean | undefined;
};

const WAYS = ['tags', 'url', 'key', 'all'] as const;

/**
 * Resolves when the store has recorded the purge: this process uses nothing older from then on, other processes from the
 * moment that they hear of it. Rejects when the store cannot be reached.
 */
export async function invalidate(
  target: InvalidationTarget,
  {
    versions,
    keys,
    reporter,
  }: { readonly versions: Versions; readonly keys: Keys; readonly reporter: Reporter },
): Promise<void> {
  const reader = new OptionReader('kit.invalidate', target, [...WAYS, 'soft']);
  const given = WAYS.filter((way) => reader.has(way));
  if (given.length !== 1) {
    throw new ConfigError(
      `kit.invalidate: ${given.length === 0 ? 'nothing is' : `${given.join(' and ')} are`} given; ` +
        'say exactly one of tags, url, key and all',
    );
  }
  const soft = reader.boolean('soft', false);
  const { names, what } = targetOf(reader, keys);
  if (names.length > 0) await versions.purge(names, soft);
  reporter.events.emit('cache:purged', { what, soft });
}

function targetOf(reader: OptionReader, keys: Keys) {
  if (reader.has('tags')) {
    const tags = checkTags('kit.invalidate: option `tags`: the tags', reader.value('tags'));
    return { names: [...new Set(tags)].map((tag) => keys.cacheName('tag', tag)), what: { tags } };
  }
  const url = reader.string('url');
  if (url !== undefined) {
    if (!url.startsWith('/')) {
      throw reader.error('url', `it must be path and query, like '/products?page=2': every host is meant`);
    }
    return { names: namesOfUrl(url, keys), what: { url } };
  }
  const key = reader.string('key');
  if (key !== undefined) return { names: [keys.cacheName('key', key)], what: { key } };
  if (reader.value('all') !== true)
    throw reader.error('all', `it must be true; ${describe(false)} means nothing`);
  return { names: [ALL], what: { all: true as const } };
}
