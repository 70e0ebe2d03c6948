import type { IncomingMessage, ServerResponse } from 'node:http';
import { asExpress, type Res } from '../../http/middleware.ts';
import { checkTags } from '../store/options.ts';
import type { CacheSettings } from './options.ts';

/** The tags that the option `tags` gives a response. Throws for what is no list of tags. */
export function responseTags(
  { tags }: Pick<CacheSettings, 'tags'>,
  req: IncomingMessage,
  res: ServerResponse,
): readonly string[] {
  if (typeof tags !== 'function') return tags;
  return checkTags('kit.cache: option `tags`: the tags', tags(asExpress(req), res as Res));
}
