import { connectPlainClient } from '../support/plain-client.ts';
import { until } from '../support/until.ts';

/** A script call as the server ran it. */
export interface ObservedCall {
  /** `address:port` of its connection. */
  readonly client: string;
  /** The part of its key in braces. */
  readonly id: string;
  /** The bounds of the time that the script read from the server's clock. */
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
 * The script calls that the server ran during `work`, in order, with the server's time of each. MONITOR reports them, so
 * the result does not depend on the code under test: a script reads the clock between the lines before and after its TIME.
 */
export async function observeCalls(url: string, work: () => Promise<void>): Promise<readonly ObservedCall[]> {
  const lines: Line[] = [];
  const monitor = await connectPlainClient(url);
  const marker = await connectPlainClient(url);
  try {
    await monitor.monitor((line) => lines.push(parse(String(line))));
    await work();
    await marker.echo('the end');
    await until('MONITOR shows the end', () => lines.at(-1)?.command === 'ECHO');
    return callsIn(lines);
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

function callsIn(lines: readonly Line[]): ObservedCall[] {
  return lines.flatMap(({ client, command, id }, index) => {
    const [before, clock, after] = [lines[index - 1], lines[index + 1], lines[index + 2]];
    // An EVALSHA without a call inside ran nothing: the server did not know the script.
    if (command !== 'EVALSHA' || before === undefined || after === undefined || clock?.client !== 'lua')
      return [];
    if (clock.command !== 'TIME') throw new Error(`a script called ${clock.command} before TIME`);
    const earliestMs = Math.floor(before.microseconds / 1_000);
    return [{ client, id, earliestMs, latestMs: Math.floor(after.microseconds / 1_000) }];
  });
}
