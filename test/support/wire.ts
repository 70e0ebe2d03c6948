import { randomUUID } from 'node:crypto';
import { connectPlainClient, withPlainClient } from './plain-client.ts';
import { until } from './until.ts';

/** A command as the server received it: the name in capitals, then the arguments. */
export type WireCommand = readonly [name: string, ...args: string[]];

/**
 * Lists the commands that the server received while `work` ran, without calls inside scripts and heartbeats. It sees all
 * clients, so a test that counts exactly uses a server of its own. Commands for which `work` does not wait may be missing.
 * MONITOR itself hides administrative commands and passwords.
 */
export async function countCommands(url: string, work: () => unknown): Promise<readonly WireCommand[]> {
  const seen: WireCommand[] = [];
  const monitor = await connectPlainClient(url);
  try {
    await monitor.monitor((line) => {
      const command = parseMonitorLine(String(line));
      if (command !== undefined && command[0] !== 'PING') seen.push(command);
    });
    return await withPlainClient(url, async (marker) => {
      const mark = async (): Promise<number> => {
        const text = randomUUID();
        await marker.echo(text);
        const position = () => seen.findIndex(([name, argument]) => name === 'ECHO' && argument === text);
        await until('MONITOR shows the mark', () => position() !== -1);
        return position();
      };
      const begin = await mark();
      await work();
      const end = await mark();
      return seen.slice(begin + 1, end);
    });
  } finally {
    monitor.destroy();
  }
}

/**
 * A line such as `1700000000.123456 [0 127.0.0.1:50000] "set" "a" "\xffb"`. The brackets hold the database and the
 * client's address, or `lua` for a call inside a script, which is undefined here.
 */
function parseMonitorLine(line: string): WireCommand | undefined {
  const parts = /^\S+ \[\d+ (?<client>\S+)\] (?<words>".*)$/s.exec(line)?.groups;
  if (parts?.client === undefined || parts.words === undefined) {
    throw new Error(`not a line of MONITOR: ${line}`);
  }
  if (parts.client === 'lua') return undefined;
  const [name = '', ...args] = Array.from(parts.words.matchAll(/"((?:[^"\\]|\\.)*)"/gs), ([, word = '']) =>
    unescapeWord(word),
  );
  return [name.toUpperCase(), ...args];
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' };

/** MONITOR escapes single bytes, so the text is decoded as UTF-8 after unescaping. */
function unescapeWord(word: string): string {
  const bytes = word.replace(/\\(x[0-9a-f]{2}|.)/gs, (_, sequence: string) =>
    sequence.length === 3
      ? String.fromCharCode(Number.parseInt(sequence.slice(1), 16))
      : (ESCAPES[sequence] ?? sequence),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
