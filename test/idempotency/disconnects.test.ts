import { expect, it } from 'vitest';
import type { IdempotencyOptions } from '../../src/index.ts';
import { askAndLeave, departures, NO_NOTICES, NOTICES } from '../http/disconnects.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { shop } from './shop.ts';

describeOnBothEngines(
  'A request with a key whose client disconnected before the handler ended the response',
  (url) => {
    /** The response to a retry, and the number of its attempt. */
    async function retried(
      [, begin, look]: (typeof NOTICES)[number],
      options: IdempotencyOptions = {},
    ): Promise<{ readonly text: string; readonly attempt: number }> {
      const kit = kitForTest({ url: url() });
      const left = departures();
      let isOver = false;
      let attempt = 0;
      const { address, order } = await shop(kit, { above: [left.note], ...options }, async (req, res) => {
        attempt = req.idempotency?.attempt ?? 0;
        if (attempt > 1) return void res.send('imported 20 of 20');
        const begun = begin(req, res);
        res.flushHeaders();
        await left.of(req);
        look(begun, req, res);
        res.end('imported 5 of 20');
        isOver = true;
      });
      const headers = { 'Idempotency-Key': 'k', 'Content-Type': 'application/json' };
      await askAndLeave(`${address}/orders`, { method: 'POST', headers, body: '{"item":"tea"}' });
      await until('the first attempt is over', () => isOver);
      let text = '';
      await until('the first attempt is recorded or not', async () => {
        const answer = await order('k');
        text = answer.text;
        return answer.status !== 409;
      });
      return { text, attempt };
    }

    const [blind] = NO_NOTICES;
    const [seeing] = NOTICES;

    it.each(NOTICES)('a request runs again if %s showed the handler the disconnect', async (...notice) => {
      // The request emitted 'close' after its body was read, and does not emit it again.
      const showsNothing = /'(close|error)' of the request/.test(notice[0]);
      expect(await retried(notice)).toEqual(
        showsNothing ? { text: 'imported 5 of 20', attempt: 1 } : { text: 'imported 20 of 20', attempt: 2 },
      );
    });

    it.each(NO_NOTICES)('a response is recorded if the handler looked only at %s', async (...notice) => {
      expect(await retried(notice)).toEqual({ text: 'imported 5 of 20', attempt: 1 });
    });

    it("a response is recorded with `onDisconnect: 'keep'`, even if the handler may have noticed the disconnect", async () => {
      expect((await retried(seeing as never, { onDisconnect: 'keep' })).attempt).toBe(1);
    });

    it("a request runs again with `onDisconnect: 'drop'`, even if the handler cannot have noticed the disconnect", async () => {
      expect((await retried(blind as never, { onDisconnect: 'drop' })).attempt).toBe(2);
    });
  },
);
