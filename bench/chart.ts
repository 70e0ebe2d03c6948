import { bareOf, type NodeRun, type RowResult, ratioOf, type ServerResult } from './results.ts';
import { countsOperations } from './rows/index.ts';

/* The chart: for each server of each row a bar for its CPU per request, to the bare handler, with the middle half of the rounds. */

const LABELS = 330;
const BARS = 470;
const VALUE = 60;
const LINE = 16;
const TOP = 44;

/** Readable on a light and on a dark page. */
const STYLE = `
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.row { font-weight: 600; }
.kit { fill: #0969da; } .peer { fill: #8c959f; }
.grid { stroke: #8c959f; stroke-opacity: 0.3; } .bare { stroke: #cf222e; } .spread { stroke: #1f2328; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .kit { fill: #4493f8; } .peer { fill: #6e7681; } .bare { stroke: #f85149; } .spread { stroke: #e6edf3; }
}`;

interface Bar {
  readonly server: ServerResult;
  readonly median: number;
  readonly from: number;
  readonly to: number;
}

export function chartOf({ node, rows }: NodeRun): string {
  const groups = rows
    .filter(({ name }) => !name.includes('@') && name !== 'delayed' && !countsOperations(name))
    .map((row) => ({ title: row.title, bars: barsOf(row) }));
  const most = Math.max(1, ...groups.flatMap(({ bars }) => bars.map(({ to }) => to)));
  const scale = (ratio: number) => LABELS + (ratio / most) * BARS;
  const parts: string[] = [];
  let y = TOP;
  for (const { title, bars } of groups) {
    y += LINE;
    parts.push(text(0, y, title, 'row'));
    for (const bar of bars) {
      y += LINE;
      parts.push(...drawBar(bar, y, scale));
    }
    y += LINE / 2;
  }
  return svg(`CPU per request on Node.js ${node}, to a bare Express handler`, y, [
    ...grid(most, y, scale),
    ...parts,
  ]);
}

function barsOf(row: RowResult): readonly Bar[] {
  const bare = bareOf(row);
  if (bare === undefined) return [];
  return row.servers
    .filter((server) => server !== bare)
    .map((server) => ({ server, ...ratioOf(server, bare, 'cpuMicros') }));
}

function drawBar(
  { server, median, from, to }: Bar,
  y: number,
  scale: (ratio: number) => number,
): readonly string[] {
  const middle = y - 4;
  return [
    text(12, y, server.name),
    `<rect class="${server.kind}" x="${LABELS}" y="${middle - 5}" width="${(scale(median) - LABELS).toFixed(1)}" height="10"/>`,
    line('spread', scale(from), middle, scale(to), middle),
    text(scale(Math.max(median, to)) + 6, y, median.toFixed(2)),
  ];
}

function grid(most: number, bottom: number, scale: (ratio: number) => number): readonly string[] {
  const ticks = Array.from({ length: Math.floor(most * 2) + 1 }, (_, index) => index / 2);
  return ticks.flatMap((ratio) => [
    line(ratio === 1 ? 'bare' : 'grid', scale(ratio), TOP, scale(ratio), bottom),
    text(scale(ratio) - 8, TOP - 6, ratio.toFixed(1)),
  ]);
}

function line(kind: string, x1: number, y1: number, x2: number, y2: number): string {
  const [fromX, toX] = [x1.toFixed(1), x2.toFixed(1)];
  return `<line class="${kind}" x1="${fromX}" y1="${y1}" x2="${toX}" y2="${y2}"/>`;
}

function text(x: number, y: number, words: string, kind = ''): string {
  const escaped = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text class="${kind}" x="${x.toFixed(1)}" y="${y}">${escaped}</text>`;
}

function svg(title: string, bottom: number, parts: readonly string[]): string {
  const [width, height] = [LABELS + BARS + VALUE, bottom + LINE / 2];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img">`,
    `<title>${title}</title>`,
    `<style>${STYLE}</style>`,
    text(0, 16, title, 'row'),
    ...parts,
    '</svg>\n',
  ].join('\n');
}
