import type { IncomingMessage } from 'node:http';
import { checkChannelName } from '../base/channel-name.ts';
import { ConfigError } from '../base/errors.ts';
import { identityError, isIdentity } from '../base/identity.ts';
import { asExpress, originalUrl } from '../http/middleware.ts';
import type { ChannelNames, SseSettings } from './options.ts';

const MAX_CHANNELS = 100;

/** Browsers send the id of the last event as a header, and Node.js accepts 16 kB of headers. */
const MAX_ID_LENGTH = 8_000;

/** The length of a cursor, `=` and `&`. */
const CURSOR_LENGTH = 33;

const WHERE = 'kit.sse: option `channels`';

/** The channels of a request, each once; null if the middleware does not respond. Throws for a wrong result. */
export async function channelsOf(
  req: IncomingMessage,
  { channels, replay }: SseSettings,
): Promise<ChannelNames | null> {
  const given: unknown = await channels(asExpress(req));
  if (given === null) return null;
  const names = Array.isArray(given) ? [...new Set<unknown>(given)] : [given];
  if (!names.every(isIdentity)) {
    const wrong = Array.isArray(given) ? names.find((name) => !isIdentity(name)) : given;
    throw identityError(WHERE, wrong, 'a string that is not empty, an array of these, or null');
  }
  if (names.length > MAX_CHANNELS) {
    throw new ConfigError(`${WHERE} returned ${names.length} channels; the most are ${MAX_CHANNELS}`);
  }
  if (replay === undefined) for (const name of names) checkChannelName(`${WHERE}: a name`, name);
  else if (Array.isArray(given)) checkIdLength(names);
  return Array.isArray(given) ? names : (names[0] ?? null);
}

/** Throws if an id with the cursors of all channels would be too long for a header. */
function checkIdLength(names: readonly string[]): void {
  const length = new URLSearchParams(names.map((name): [string, string] => [name, ''])).toString().length;
  if (length + names.length * CURSOR_LENGTH <= MAX_ID_LENGTH) return;
  throw new ConfigError(
    `${WHERE} returned ${names.length} channels whose names are too long together: the id of an event must have at most ${MAX_ID_LENGTH} characters; use shorter ids or several streams`,
  );
}

/**
 * The last id that the client has received. The header of a reconnect has priority over the query parameter, which is
 * for the first request: EventSource cannot set headers, and repeats the same URL.
 */
export function lastEventIdOf(req: IncomingMessage): string | undefined {
  const header = req.headers['last-event-id'];
  if (typeof header === 'string' && header !== '') return header;
  const url = originalUrl(req);
  const query = url.includes('?') ? url.slice(url.indexOf('?') + 1) : '';
  return new URLSearchParams(query).get('lastEventId') ?? undefined;
}
