import type { BrowserContextOptions, Page } from 'playwright-core';
import { expect, it, onTestFinished } from 'vitest';
import { createChat } from '../../examples/chat/app.ts';
import { fakeModel } from '../../examples/chat/model.ts';
import { describeInBrowser, type OpenWindow } from '../support/browser.ts';
import { kitForTest } from '../support/kits.ts';
import { startProxy } from '../support/proxy.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';

let openWindow: OpenWindow;

function serveChat(): Promise<string> {
  return serve(createChat(kitForTest({ url: 'memory:' }), fakeModel(0), 'a secret of the tests').app);
}

/** Opens a window, and signs in. */
async function enter(address: string, name: string, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await openWindow('about:blank', { viewport: { width: 1280, height: 800 }, ...options });
  page.setDefaultTimeout(60_000);
  const errors: Error[] = [];
  page.on('pageerror', (error) => errors.push(error));
  onTestFinished(() => expect(errors).toEqual([]));
  await page.goto(address);
  await page.fill('#name', name);
  await page.click('#sign-in-form button');
  await page.waitForSelector('#live[data-state="live"]', { state: 'attached' });
  return page;
}

async function write(page: Page, text: string): Promise<void> {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/** The messages on the page, top to bottom; those of the user begin with `>`. */
function messagesOn(page: Page): Promise<string[]> {
  return page.$$eval('.message:not([data-state])', (rows) =>
    rows.map((row) => {
      const text = row.querySelector('.bubble')?.textContent ?? '';
      return row.getAttribute('data-kind') === 'own' ? `> ${text}` : text;
    }),
  );
}

async function expectMessages(page: Page, expected: readonly string[]): Promise<void> {
  await until(`the page shows ${expected.length} messages`, async () => {
    return (await messagesOn(page)).length >= expected.length;
  });
  expect(await messagesOn(page)).toEqual(expected);
}

describeInBrowser('examples/chat in a browser', (open) => {
  openWindow = open;

  it('two windows see the messages of each other as they are sent, and markup in them is text', async () => {
    const address = await serveChat();
    const ann = await enter(address, 'Ann');
    const ben = await enter(address, 'Ben');
    await write(ann, 'hello <img src=x onerror=alert(1)>');
    await expectMessages(ben, ['hello <img src=x onerror=alert(1)>']);
    await write(ben, 'hello Ann');
    await expectMessages(ann, ['> hello <img src=x onerror=alert(1)>', 'hello Ann']);
    await expectMessages(ben, ['hello <img src=x onerror=alert(1)>', '> hello Ann']);
    await ann.reload();
    await expectMessages(ann, ['> hello <img src=x onerror=alert(1)>', 'hello Ann']);
  });

  it('a window that was offline gets what it missed, once and in order, and sends what it wrote meanwhile', async () => {
    const address = await serveChat();
    const proxy = await startProxy({ host: '127.0.0.1', port: Number(new URL(address).port) });
    const ann = await enter(address, 'Ann');
    const ben = await enter(`http://${new URL(proxy.url).host}`, 'Ben');
    await write(ann, 'one');
    await expectMessages(ben, ['one']);
    proxy.sever();
    await ben.waitForSelector('#live:not([data-state="live"])');
    for (const text of ['two', 'three', 'four']) await write(ann, text);
    await expectMessages(ann, ['> one', '> two', '> three', '> four']);
    await write(ben, 'five');
    await ben.waitForSelector('.message[data-state="failed"]');
    proxy.mend();
    await ben.waitForSelector('#live[data-state="live"]');
    await expectMessages(ben, ['one', 'two', 'three', 'four']);
    await ben.click('.retry');
    await expectMessages(ben, ['one', 'two', 'three', 'four', '> five']);
    await expectMessages(ann, ['> one', '> two', '> three', '> four', 'five']);
  });

  it('a link invites a user to a thread, and a thread that is not open counts its unread messages', async () => {
    const address = await serveChat();
    const ann = await enter(address, 'Ann');
    await ann.fill('#title', 'Tea');
    await ann.press('#title', 'Enter');
    await ann.waitForSelector('#thread-title:has-text("Tea")');
    const ben = await enter(ann.url(), 'Ben');
    await ben.waitForSelector('#thread-title:has-text("Tea")');
    await write(ann, 'do you like it?');
    await expectMessages(ben, ['do you like it?']);
    await ben.click('.thread-link:has-text("Lobby")');
    await ben.waitForSelector('#thread-title:has-text("Lobby")');
    await write(ann, 'well?');
    await ben.waitForSelector('.thread-link:has-text("Tea") .badge:has-text("1")');
    await ben.click('.thread-link:has-text("Tea")');
    await expectMessages(ben, ['do you like it?', 'well?']);
  });

  it('the answer of the assistant, the summary and the report appear in both windows', async () => {
    const address = await serveChat();
    const ann = await enter(address, 'Ann');
    const ben = await enter(address, 'Ben');
    await write(ann, 'oolong or jasmine?');
    await ann.click('#ask');
    for (const page of [ann, ben]) {
      await page.waitForSelector('.message[data-kind="assistant"]');
      await page.waitForSelector('#summary li:has-text("oolong")');
    }
    await ann.click('#start-report');
    for (const page of [ann, ben]) {
      await page.waitForSelector('#report:has-text("Ann asked: oolong or jasmine?")');
      expect(await page.locator('#steps [data-state="done"]').count()).toBe(3);
    }
  });

  it('a phone shows one pane at a time without a horizontal scroll bar, and Escape closes the details', async () => {
    const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
    const page = await enter(await serveChat(), 'Ann', phone);
    const isFitting = () =>
      page.evaluate(
        'document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth',
      );
    expect([await page.isVisible('.sidebar'), await page.isVisible('.thread'), await isFitting()]).toEqual([
      true,
      false,
      true,
    ]);
    await page.tap('.thread-link');
    await page.waitForSelector('#composer:visible');
    await write(page, `a word without an end: ${'x'.repeat(300)}`);
    await page.waitForSelector('.message');
    const composer = await page.locator('#composer').boundingBox();
    expect((composer?.y ?? 0) + (composer?.height ?? 0)).toBeLessThanOrEqual(844);
    expect([await page.isVisible('.sidebar'), await page.isVisible('.thread'), await isFitting()]).toEqual([
      false,
      true,
      true,
    ]);
    await page.tap('#show-details');
    await page.waitForSelector('#details:visible');
    expect([await page.isVisible('#summary-title'), await isFitting()]).toEqual([true, true]);
    await page.keyboard.press('Escape');
    await page.waitForSelector('#details', { state: 'hidden' });
    await page.tap('#back');
    expect([await page.isVisible('.sidebar'), await page.isVisible('.thread')]).toEqual([true, false]);
  });
});
