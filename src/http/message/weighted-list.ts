import { trimWhitespace } from './optional-whitespace.ts';

/** A weight between 0 and 1 with up to three decimals (RFC 9110, section 12.4.2). */
const WEIGHT = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/**
 * Normalizes Accept-Language or Accept-Encoding, so that equal preferences are equal texts: case, order, whitespace and the
 * notation of weights do not matter (RFC 9110, sections 12.4.2, 12.5.3 and 12.5.4).
 */
export function canonicalWeightedList(value: string): string {
  const members = value.toLowerCase().split(',').map(canonicalMember);
  return [...new Set(members)]
    .filter((member) => member !== '')
    .sort()
    .join(',');
}

function canonicalMember(member: string): string {
  const [range = '', ...parameters] = member.split(';').map(trimWhitespace);
  return [range, ...parameters.map(canonicalParameter).filter((parameter) => parameter !== '')].join(';');
}

/** Normalizes a parameter; the weight 1 becomes empty, since 1 is the default. */
function canonicalParameter(parameter: string): string {
  const at = parameter.indexOf('=');
  const weight = trimWhitespace(parameter.slice(at + 1));
  if (trimWhitespace(parameter.slice(0, Math.max(0, at))) !== 'q' || !WEIGHT.test(weight)) return parameter;
  return Number(weight) === 1 ? '' : `q=${Number(weight)}`;
}
