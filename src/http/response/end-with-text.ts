import { ServerResponse } from 'node:http';
import { type Method, methodBelow } from './method-interception.ts';

/** Node's `end`, read before adapters or tracers replace it. */
const NATIVE_END = methodBelow(ServerResponse.prototype.end as Method);

/** Whether text and its encoding can be passed to `end`. Middleware that wraps `end` may ignore the encoding. */
export function takesEncodedText(res: ServerResponse): boolean {
  return methodBelow(res.end as Method) === NATIVE_END;
}

/**
 * Ends a response with bytes that are given as Latin-1 text. Node sends text in one piece with the head, and a buffer as
 * a second one, which costs a tenth of a response.
 */
export function endWithText(res: ServerResponse, text: string): void {
  if (takesEncodedText(res)) res.end(text, 'latin1');
  else res.end(Buffer.from(text, 'latin1'));
}
