import { connectPlainClient } from '../support/plain-client.ts';
import { until } from '../support/until.ts';

/** A try as the server saw it, in the order of all tries. */
export interface Try {
  /** `address:port` of the connection that it came on. */
  readonly client: string;
  /** What stands in the braces of its key. */
  readonly id: string;
  /** The server's clock, which the script read once, showed no earlier and no later millisecond than these. */
  readonly earliestMs: number;
  readonly latestMs: number;
}

interface Line {
  readonly microseconds: number;
  readonly client: string;
  readonly command: string;
  readonly id: string;
}

/**
 * The scripts that the server ran while `work` did, with the server's time of each. It is told by MONITOR, and so by
 * nobody who is under test: a script's reading of the clock lies between the lines before and after its TIME.
 */
export async function watchTries(url: string, work: () => Promise<void>): Promise<readonly Try[]> {
  const lines: Line[] = [];
  const monitor = await connectPlainClient(url);
  const marker = await connectPlainClient(url);
  try {
    await monitor.monitor((line) => lines.push(parse(String(line))));
    await work();
    await marker.echo('the end');
    await until('MONITOR shows the end', () => lines.at(-1)?.command === 'ECHO');
    return triesIn(lines);
  } finally {
    monitor.destroy();
    marker.destroy();
  }
}

function parse(line: string): Line {
  const parts = /^(\d+)\.(\d{6}) \[\d+ (\S+)\] "(\w+)"/.exec(line);
  if (parts === null) throw new Error(`not a line of MONITOR: ${line}`);
  const [, seconds, fraction, client = '', command = ''] = parts;
  const id = /\{([^}]*)\}/.exec(line.slice(0, 400))?.[1] ?? '';
  return { microseconds: Number(seconds) * 1_000_000 + Number(fraction), client, command, id };
}

function triesIn(lines: readonly Line[]): Try[] {
  return lines.flatMap(({ client, command, id }, index) => {
    const [before, clock, after] = [lines[index - 1], lines[index + 1], lines[index + 2]];
    // Without a call inside, the server did not know the script yet and ran nothing.
    if (command !== 'EVALSHA' || before === undefined || after === undefined || clock?.client !== 'lua')
      return [];
    if (clock.command !== 'TIME') throw new Error(`a script asked for ${clock.command} before the time`);
    const earliestMs = Math.floor(before.microseconds / 1_000);
    return [{ client, id, earliestMs, latestMs: Math.floor(after.microseconds / 1_000) }];
  });
}
