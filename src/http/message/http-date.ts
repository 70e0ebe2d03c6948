const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

const SHORT = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const LONG = '(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)';
const DAY = String.raw`(?<day>\d\d)`;
const MONTH = `(?<month>${MONTHS.join('|')})`;
const YEAR = String.raw`(?<year>\d{4})`;
const TIME = String.raw`(?<time>\d\d:\d\d:\d\d)`;

/** IMF-fixdate, RFC 850, asctime (RFC 9110, section 5.6.7). Caches accept names in any case (RFC 9111, section 4.2). */
const FORMS = [
  new RegExp(`^${SHORT}, ${DAY} ${MONTH} ${YEAR} ${TIME} GMT$`, 'i'),
  new RegExp(String.raw`^${LONG}, ${DAY}-${MONTH}-(?<year>\d\d) ${TIME} GMT$`, 'i'),
  new RegExp(String.raw`^${SHORT} ${MONTH} (?<day>\d\d| \d) ${TIME} ${YEAR}$`, 'i'),
];

/**
 * Parses an HTTP-date to milliseconds since the epoch; undefined for other text (RFC 9110, section 5.6.7). A wrong name
 * of the day is accepted, since section 5.6.7 does not forbid one. `now` decides the century of a two-digit year.
 */
export function parseHttpDate(text: string, now: number = Date.now()): number | undefined {
  for (const form of FORMS) {
    const parts = form.exec(text)?.groups;
    if (parts !== undefined) return timeOf(parts, now);
  }
  return undefined;
}

type Parts = Readonly<Record<string, string>>;

function timeOf({ day = '', month = '', year = '', time = '' }: Parts, now: number): number | undefined {
  const [hour = 0, minute = 0, second = 0] = time.split(':').map(Number);
  // A leap second is read as the second before, so that no response expires later because of a leap second.
  if (hour > 23 || minute > 59 || (second > 59 && time !== '23:59:60')) return undefined;
  const monthIndex = MONTHS.findIndex((name) => name.toLowerCase() === month.toLowerCase());
  const inYear = (full: number) => {
    const date = new Date(0);
    // Not Date.UTC, which reads the year 50 as 1950.
    date.setUTCFullYear(full, monthIndex, Number(day));
    date.setUTCHours(hour, minute, Math.min(second, 59));
    return date;
  };
  const date = year.length === 2 ? latest(inYear, Number(year), now) : inYear(Number(year));
  return date.getUTCDate() === Number(day) ? date.getTime() : undefined;
}

/** The latest year with these two digits that is at most 50 years in the future. */
function latest(inYear: (full: number) => Date, digits: number, now: number): Date {
  const horizon = new Date(now);
  const thisYear = horizon.getUTCFullYear();
  horizon.setUTCFullYear(thisYear + 50);
  const next = thisYear - (thisYear % 100) + 100 + digits;
  return [next, next - 100].map(inYear).find((date) => date <= horizon) ?? inYear(next - 200);
}
