import { ConfigError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import { OptionReader } from '../base/option-reader.ts';
import { namesOfUrl } from './http/invalidation.ts';
import { checkTags } from './store/options.ts';
import { ALL, type CacheEnvironment, type Versions } from './store/versions.ts';

/**
 * The entries to invalidate. `tags`: the entries with one of these tags; groups that a response lists in Cache-Groups
 * are tags of the response. `url`: the responses to this path and query, on every host and in every variant, and all
 * responses of the path that may answer several URLs, by `key.query`, a `key` function or No-Vary-Search. `key`: the entries whose key is this argument of `kit.remember` or
 * this result of a `key` function. `all`: every entry of the namespace.
 */
export type InvalidationTarget = (
  | { readonly tags: string | readonly string[] }
  | { readonly url: string }
  | { readonly key: string }
  | { readonly all: true }
) & {
  /** Whether the entries become stale and are used while they are refreshed. Default false: they become invalid. */
  readonly soft?: boolean | undefined;
};

const TARGETS = ['tags', 'url', 'key', 'all'] as const;

export async function invalidate(
  target: InvalidationTarget,
  { keys, reporter, versions }: Pick<CacheEnvironment, 'keys' | 'reporter'> & { readonly versions: Versions },
): Promise<void> {
  const reader = new OptionReader('kit.invalidate', target, [...TARGETS, 'soft']);
  const given = TARGETS.filter((name) => reader.has(name));
  if (given.length !== 1) {
    throw new ConfigError(
      `kit.invalidate: ${given.length === 0 ? 'nothing is' : `${given.join(' and ')} are`} given; ` +
        'give exactly one of tags, url, key and all',
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
      throw reader.error(
        'url',
        `it must be a path and a query, like '/products?page=2', without a host: the URL is invalidated on every host`,
      );
    }
    return { names: namesOfUrl(url, keys), what: { url } };
  }
  const key = reader.string('key');
  if (key !== undefined) return { names: [keys.cacheName('key', key)], what: { key } };
  if (reader.value('all') !== true) throw reader.error('all', `it must be true`);
  return { names: [ALL], what: { all: true as const } };
}
