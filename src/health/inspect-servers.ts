import { asError } from '../base/errors.ts';
import type { RawReply } from '../engine/operation.ts';
import type { SendToMaster } from './probe.ts';
import { parseInfo, serverWarnings } from './server-info.ts';

/** Warnings about the settings of all masters, and about what they do not show. */
export async function inspectServers(
  masters: readonly SendToMaster[],
  timeoutMs: number,
): Promise<readonly string[]> {
  const found = await Promise.all(masters.map((send) => inspectServer(send, timeoutMs)));
  const warnings = new Set(found.flat());
  return [...warnings].map((warning) => {
    const count = found.filter((each) => each.includes(warning)).length;
    return count === masters.length ? warning : `${warning} (${count} of ${masters.length} masters)`;
  });
}

async function inspectServer(send: SendToMaster, timeoutMs: number): Promise<readonly string[]> {
  const [info, save] = await Promise.allSettled([
    send(['INFO'], timeoutMs).then(String),
    send(['CONFIG', 'GET', 'save'], timeoutMs).then(settingOf),
  ]);
  const unread =
    save.status === 'rejected' ? [unreadable('the persistence setting `save`', save.reason)] : [];
  if (info.status === 'rejected') {
    const what = 'version, role, maxmemory-policy and persistence';
    return [unreadable(what, info.reason), ...unread];
  }
  const known = save.status === 'fulfilled' ? save.value : undefined;
  return [...serverWarnings(parseInfo(info.value), known), ...unread];
}

/** The value in a reply of CONFIG GET: an object in RESP3, and a list of the name and the value in RESP2. */
function settingOf(reply: RawReply): string {
  const value: unknown = Array.isArray(reply) ? reply[1] : Object.values(Object(reply))[0];
  if (value === undefined) throw new Error('CONFIG GET shows nothing');
  return String(value);
}

function unreadable(what: string, error: unknown): string {
  return `${what} could not be read: ${asError(error).message}`;
}
