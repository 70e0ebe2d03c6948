import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packFrame, unpackFrame } from '../../src/base/framing.ts';

describe('packFrame() and unpackFrame()', () => {
  it('unpackFrame() returns the meta and the body that packFrame() packed', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.uint8Array(), (meta, body) => {
        const json: unknown = JSON.parse(JSON.stringify(meta));
        expect(unpackFrame(packFrame(meta, Buffer.from(body)))).toEqual({
          meta: json,
          body: Buffer.from(body),
        });
      }),
    );
  });

  it('a frame consists of the length of its meta, the meta as JSON, and the body', () => {
    expect(packFrame(['a'], Buffer.from('body'))).toEqual(Buffer.from('\0\0\0\u0005["a"]body'));
  });

  it('the body that unpackFrame() returns is a view of the frame and not a copy', () => {
    const packed = packFrame({}, Buffer.from('body'));
    expect(unpackFrame(packed)?.body.buffer).toBe(packed.buffer);
  });

  it('unpackFrame() returns undefined for bytes that are no frame', () => {
    for (const bytes of [
      '',
      '\0\0\0',
      '\0\0\0\u0005[1]',
      '\0\0\0\u0001{body',
      '\u00ff\u00ff\u00ff\u00ff[]',
    ]) {
      expect(unpackFrame(Buffer.from(bytes, 'latin1')), bytes).toBeUndefined();
    }
  });
});
