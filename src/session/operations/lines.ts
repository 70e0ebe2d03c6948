/*
 * The stored form of a JSON object, in which a script replaces single keys without parsing JSON:
 *
 *   {
 *   "name":value,
 *   "name":value}
 *
 * Each key is on a line of its own. No line feed occurs inside of a line, since JSON.stringify escapes it, and no
 * quotation mark inside of a name, since `lineStart` escapes it. The text is JSON, so each JSON parser reads it.
 */

/** A key of an object to set or to delete. */
export interface LineChange {
  /** The line feed, the name and the colon, as `lineStart` returns them. No other line begins with them. */
  readonly start: string;
  /** The JSON of the value to set; empty to delete the key. */
  readonly value: string;
}

/** The bytes that a sealed value, a JSON string of Base64 without padding, takes besides the plain text of its line. */
export const SEAL_BYTES = 28;

/**
 * Defines `change_lines`, which sets and deletes keys in the text of an object. The arguments from `first` to `last` are
 * the start of a line and its value, in turn. Returns nil when the text is not in lines. Adds the growth of sealed lines
 * to `growth`, in the bytes of their plain text.
 */
export const LINES_LUA: string = /* lua */ `
local SEALED, growth = false, 0
local function grow(sign, start, length)
  if SEALED then growth = growth + sign * (math.floor((length - #start - 3) * 3 / 4) - ${SEAL_BYTES - 2}) end
end
local function new_line(i)
  if ARGV[i + 1] == '' then return '' end
  local line = ARGV[i] .. ARGV[i + 1] .. ','
  grow(1, ARGV[i], #line)
  return line
end
local function change_few(lines, first, last)
  for i = first, last, 2 do
    local line, at = new_line(i), string.find(lines, ARGV[i], 1, true)
    if at then
      local after = string.find(lines, '\\n', at + 1, true) or #lines + 1
      grow(-1, ARGV[i], after - at)
      lines = string.sub(lines, 1, at - 1) .. line .. string.sub(lines, after)
    else
      lines = lines .. line
    end
  end
  return lines
end
local function change_many(lines, first, last)
  local changed = {}
  for i = first, last, 2 do changed[ARGV[i]] = new_line(i) end
  local all = { (string.gsub(lines, '((\\n"[^"]*":)[^\\n]*)', function(before, start)
    local line = changed[start]
    if line then
      grow(-1, start, #before)
      changed[start] = nil
    end
    return line
  end)) }
  for i = first, last, 2 do all[#all + 1] = changed[ARGV[i]] end
  return table.concat(all)
end
local function change_lines(text, first, last)
  if first > last then return text end
  local lines = ''
  if text ~= '{}' then
    if string.sub(text, 1, 2) ~= '{\\n' or string.sub(text, -1) ~= '}' then return nil end
    lines = string.sub(text, 2, -2) .. ','
  end
  lines = (last - first < 16 and change_few or change_many)(lines, first, last)
  if lines == '' then return '{}' end
  return '{' .. string.sub(lines, 1, -2) .. '}'
end
`;

/** `change_lines` on texts that are bytes as Latin-1. */
export function changeLines(
  text: string,
  changes: readonly LineChange[],
): { readonly text: string; readonly growth: number } | undefined {
  if (changes.length === 0) return { text, growth: 0 };
  if (!isInLines(text)) return undefined;
  const lines = text === '{}' ? [] : `${text.slice(1, -1)},`.split(/(?=\n)/);
  const positions = new Map<string, number>();
  for (const [at, line] of lines.entries()) {
    const [start = ''] = /^\n"[^"]*":/.exec(line) ?? [];
    if (!positions.has(start)) positions.set(start, at);
  }
  let growth = 0;
  for (const { start, value } of changes) {
    const line = value === '' ? '' : `${start}${value},`;
    const at = positions.get(start);
    growth += plainBytes(start, line) - (at === undefined ? 0 : plainBytes(start, lines[at] ?? ''));
    if (at === undefined) lines.push(line);
    else lines[at] = line;
  }
  const joined = lines.join('');
  return { text: joined === '' ? '{}' : `{${joined.slice(0, -1)}}`, growth };
}

/** The bytes that the plain text of a sealed line takes. */
function plainBytes(start: string, line: string): number {
  return line === '' ? 0 : Math.floor(((line.length - start.length - 3) * 3) / 4) - (SEAL_BYTES - 2);
}

export function isInLines(text: string): boolean {
  return text === '{}' || (text.startsWith('{\n') && text.endsWith('}'));
}

export function lineStart(name: string): string {
  if (!name.includes('"')) return `\n${JSON.stringify(name)}:`;
  const parts = name.split('"').map((part) => JSON.stringify(part).slice(1, -1));
  return `\n"${parts.join('\\u0022')}":`;
}

/** The JSON of the value of a key in a text; undefined for an absent key. */
export function jsonInLines(text: string, name: string): string | undefined {
  const start = lineStart(name);
  const at = text.indexOf(start);
  if (at < 0) return undefined;
  const end = text.indexOf('\n', at + start.length);
  // The line ends with a comma, and the last line with a brace.
  return text.slice(at + start.length, (end < 0 ? text.length : end) - 1);
}

/** The text of an object with these keys. */
export function textOf(lines: readonly LineChange[]): string {
  return `{${lines.map(({ start, value }) => start + value).join(',')}}`;
}
