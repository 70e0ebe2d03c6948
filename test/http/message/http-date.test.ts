import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseHttpDate } from '../../../src/http/message/http-date.ts';

const EXAMPLE = Date.UTC(1994, 10, 6, 8, 49, 37);
const NOW = Date.UTC(2026, 5, 15, 12);

describe('parseHttpDate() (RFC 9110, section 5.6.7)', () => {
  it.each([
    'Sun, 06 Nov 1994 08:49:37 GMT',
    'Sunday, 06-Nov-94 08:49:37 GMT',
    'Sun Nov  6 08:49:37 1994',
    'Sun Nov 06 08:49:37 1994',
  ])('parseHttpDate() reads the form %s', (text) => {
    expect(parseHttpDate(text, NOW)).toBe(EXAMPLE);
  });

  it.each([
    'sun, 06 Nov 1994 08:49:37 GMT',
    'Sun, 06 nov 1994 08:49:37 GMT',
    'Sun, 06 NOV 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 08:49:37 gmt',
    'sUNDAY, 06-nOV-94 08:49:37 gMT',
    'SUN NOV  6 08:49:37 1994',
  ])('the names of days, months and the zone are read in any case (RFC 9111, section 4.2): %s', (text) => {
    expect(parseHttpDate(text, NOW)).toBe(EXAMPLE);
  });

  it('every month, and every day with two digits, is read in each form', () => {
    for (let month = 0; month < 12; month++) {
      const time = Date.UTC(2021, month, 28, 23, 59, 59);
      const [day = '', number, name = '', year = ''] = new Date(time).toUTCString().split(/,? /);
      const long = new Date(time).toLocaleDateString('en-US', { weekday: 'long', timeZone: 'UTC' });
      expect(parseHttpDate(`${day}, ${number} ${name} ${year} 23:59:59 GMT`, NOW)).toBe(time);
      expect(parseHttpDate(`${long}, ${number}-${name}-21 23:59:59 GMT`, NOW)).toBe(time);
      expect(parseHttpDate(`${day} ${name} ${number} 23:59:59 ${year}`, NOW)).toBe(time);
    }
  });

  it.each([
    '',
    ' ',
    '0',
    '-1',
    '784111777',
    '1994-11-06T08:49:37Z',
    '1994-11-06',
    'Nov 6 1994',
    '6 Nov 1994 08:49:37 GMT',
    '06 Nov 1994 08:49:37 GMT',
    'Sun, 6 Nov 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 8:49:37 GMT',
    'Sun, 06 Nov 1994 08:49 GMT',
    'Sun, 06 Nov 1994 08:49:37.5 GMT',
    'Sun, 06 Nov 1994 08:49:37',
    'Sun, 06 Nov 1994 08:49:37 UTC',
    'Sun, 06 Nov 1994 08:49:37 EST',
    'Sun, 06 Nov 1994 08:49:37 +0000',
    'Sun, 06 Nov 1994 08:49:37 GMT+1',
    'Sun, 06 Nov 1994 08:49:37 GMT ',
    ' Sun, 06 Nov 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 08:49:37 GMT\n',
    'Sun,  06 Nov 1994 08:49:37 GMT',
    'Sun,\t06 Nov 1994 08:49:37 GMT',
    'Sun 06 Nov 1994 08:49:37 GMT',
    'Sun, 06-Nov-1994 08:49:37 GMT',
    'Sun, 06 Nov 94 08:49:37 GMT',
    'Sun, 06 Nov 01994 08:49:37 GMT',
    'Sunday, 06 Nov 1994 08:49:37 GMT',
    'Sun, 06 November 1994 08:49:37 GMT',
    'Xyz, 06 Nov 1994 08:49:37 GMT',
    'Sun, ٠٦ Nov 1994 08:49:37 GMT',
    'Sun, 06-Nov-94 08:49:37 GMT',
    'Sunday, 6-Nov-94 08:49:37 GMT',
    'Sunday, 06-Nov-1994 08:49:37 GMT',
    'Sunday, 06 Nov 94 08:49:37 GMT',
    'Sunday, 06-Nov-94 08:49:37',
    'Sun Nov 6 08:49:37 1994',
    'Sun Nov   6 08:49:37 1994',
    'Sun Nov  6 08:49:37 1994 GMT',
    'Sun Nov  6 08:49:37 94',
    'Sunday Nov  6 08:49:37 1994',
    'Sun, Nov  6 08:49:37 1994',
    'Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT',
  ])('a text that Date.parse might accept is no HTTP-date: "%s"', (text) => {
    expect(parseHttpDate(text, NOW)).toBeUndefined();
  });

  it.each([
    'Sun, 00 Nov 1994 08:49:37 GMT',
    'Sun, 31 Nov 1994 08:49:37 GMT',
    'Sun, 32 Dec 1994 08:49:37 GMT',
    'Sun, 29 Feb 2023 08:49:37 GMT',
    'Sun, 29 Feb 1900 08:49:37 GMT',
    'Sun, 30 Feb 2024 08:49:37 GMT',
    'Sunday, 29-Feb-23 08:49:37 GMT',
    'Sun Feb 29 08:49:37 2023',
    'Sun Nov  0 08:49:37 1994',
    'Sun, 06 Nov 1994 24:00:00 GMT',
    'Sun, 06 Nov 1994 08:60:00 GMT',
    'Sun, 06 Nov 1994 08:49:61 GMT',
    'Sun, 06 Nov 1994 99:99:99 GMT',
    'Sun, 06 Nov 1994 08:49:60 GMT',
    'Sun, 06 Nov 1994 23:59:61 GMT',
  ])('a time that does not exist is no HTTP-date: %s', (text) => {
    expect(parseHttpDate(text, NOW)).toBeUndefined();
  });

  it('an HTTP-date on a leap day or in a year before 100 is read', () => {
    expect(parseHttpDate('Thu, 29 Feb 2024 00:00:00 GMT')).toBe(Date.UTC(2024, 1, 29));
    expect(parseHttpDate('Tue, 29 Feb 2000 00:00:00 GMT')).toBe(Date.UTC(2000, 1, 29));
    expect(parseHttpDate('Sat, 01 Jan 0050 00:00:00 GMT')).toBe(Date.parse('0050-01-01T00:00:00Z'));
  });

  it('a leap second is read as the second before', () => {
    const time = Date.UTC(2016, 11, 31, 23, 59, 59);
    expect(parseHttpDate('Sat, 31 Dec 2016 23:59:60 GMT')).toBe(time);
    expect(parseHttpDate('Saturday, 31-Dec-16 23:59:60 GMT', NOW)).toBe(time);
    expect(parseHttpDate('Sat Dec 31 23:59:60 2016')).toBe(time);
  });

  it('an HTTP-date with the wrong name of the day is read, since section 5.6.7 does not forbid one', () => {
    expect(parseHttpDate('Mon, 06 Nov 1994 08:49:37 GMT')).toBe(EXAMPLE);
    expect(parseHttpDate('Monday, 06-Nov-94 08:49:37 GMT', NOW)).toBe(EXAMPLE);
    expect(parseHttpDate('Mon Nov  6 08:49:37 1994')).toBe(EXAMPLE);
  });

  it.each([
    ['26', NOW, 2026],
    ['00', NOW, 2000],
    ['75', NOW, 2075],
    ['77', NOW, 1977],
    ['99', NOW, 1999],
    ['00', Date.UTC(1999, 0, 1), 2000],
    ['49', Date.UTC(1999, 0, 1), 1949],
    ['98', Date.UTC(2000, 0, 1), 1998],
    ['01', Date.UTC(2099, 0, 1), 2101],
    ['60', Date.UTC(2099, 0, 1), 2060],
  ])(
    'a date of RFC 850 with the year %s, read in %d, is in %d: at most 50 years ahead',
    (digits, now, year) => {
      expect(parseHttpDate(`Sunday, 01-Jul-${digits} 00:00:00 GMT`, now)).toBe(Date.UTC(year, 6, 1));
    },
  );

  it('a date of RFC 850 that is 50 years ahead is read as the future, and a date one second later as the past', () => {
    expect(parseHttpDate('Monday, 15-Jun-76 12:00:00 GMT', NOW)).toBe(Date.UTC(2076, 5, 15, 12));
    expect(parseHttpDate('Monday, 15-Jun-76 12:00:01 GMT', NOW)).toBe(Date.UTC(1976, 5, 15, 12, 0, 1));
  });

  it('a date that Node writes is read back', () => {
    const date = fc.date({
      min: new Date('0000-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59Z'),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(date, (written) => {
        expect(parseHttpDate(written.toUTCString())).toBe(Math.floor(written.getTime() / 1_000) * 1_000);
      }),
    );
  });

  it('parseHttpDate() never throws', () => {
    const parts = fc.constantFrom('Sun', ', ', ' ', '06', 'Nov', '1994', '-', ':', '08:49:37', ' GMT', '99');
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: parts })), (text) => {
        const time = parseHttpDate(text);
        expect(time === undefined || Number.isInteger(time)).toBe(true);
      }),
    );
  });
});
