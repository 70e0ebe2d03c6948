/** From here on, Lua and JavaScript cannot count in steps of one, and a script cannot reply with the number. */
const TOO_LARGE = 2 ** 53;

/** Defines `stored_integer(digits)`, which returns nil for nil, for no digits, and for a number that is too large. */
export const STORED_INTEGER_LUA: string = /* lua */ `local function stored_integer(digits)
  local number = tonumber(digits or '')
  return number and number < ${TOO_LARGE} and number or nil
end
`;

/** The number that stored digits stand for; undefined if there are none, or if the number is too large. */
export function storedInteger(digits: string | undefined): number | undefined {
  const number = digits === undefined || digits === '' ? Number.NaN : Number(digits);
  return number < TOO_LARGE ? number : undefined;
}
