import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, onTestFinished } from 'vitest';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** The first of these programs that is on the PATH. */
function findBrowser(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Opens a window of its own, with its own cookies, which is closed with the test. */
export type OpenWindow = (url: string, options?: BrowserContextOptions) => Promise<Page>;

/** A `describe` for tests in headless Chromium. Without a browser it is skipped, with the reason in its name. */
export function describeInBrowser(name: string, tests: (openWindow: OpenWindow) => void): void {
  const executablePath = findBrowser();
  const reason =
    executablePath === undefined ? ` (left out: none of ${NAMES.join(', ')} is on the PATH)` : '';
  describe.skipIf(executablePath === undefined)(name + reason, () => {
    let browser: Browser | undefined;
    beforeAll(async () => {
      browser = await chromium.launch({
        ...(executablePath === undefined ? {} : { executablePath }),
        // Containers run as root, for which Chromium refuses its sandbox, and have a small /dev/shm.
        args: ['--no-sandbox', '--disable-dev-shm-usage'],
      });
    });
    afterAll(() => browser?.close());
    tests(async (url, options) => {
      if (browser === undefined) throw new Error('the browser did not start');
      const context = await browser.newContext(options);
      onTestFinished(() => context.close());
      const page = await context.newPage();
      await page.goto(url);
      return page;
    });
  });
}
