import { Emitter } from '../../src/base/emitter.ts';
import type { KitEvents } from '../../src/base/events.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { OptionReader } from '../../src/base/option-reader.ts';
import { openTransport } from '../../src/connection/connect.ts';
import { Connection } from '../../src/connection/connection.ts';
import {
  CONNECTION_OPTION_NAMES,
  type ConnectionOptions,
  resolveConnection,
} from '../../src/connection/options.ts';

/** Opens a connection as a kit with these options does. */
export function openConnection(
  options: ConnectionOptions,
  timeoutMs: number,
  events = new Emitter<KitEvents>(silentLogger),
): Connection {
  const reader = new OptionReader('openConnection', options, CONNECTION_OPTION_NAMES);
  const settings = resolveConnection(reader, {}, 'test');
  if (settings.kind === 'memory' || settings.kind === 'instance') throw new Error('it has no connection');
  return new Connection(openTransport(settings), events, timeoutMs);
}
