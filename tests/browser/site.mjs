// A headless browser opens each page of the site: see site.sh.
//
//   node site.mjs SITE [SCREENSHOTS]

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { judge } from './browser.mjs';

const [site, shots] = process.argv.slice(2);
const pages = fs.readdirSync(site, { recursive: true })
  .filter((name) => name.endsWith('.html') && !['404.html', 'print.html', 'toc.html'].includes(name));
console.log(`${pages.length} pages`);
await judge(async (browser, wrong) => {
  if (pages.length === 0) wrong.push(`${site} has no page`);
  for (const width of [1280, 400]) {
    const page = await browser.newPage();
    let name;
    page.on('pageerror', (error) => wrong.push(`${name} at ${width}: ${error}`));
    page.on('requestfailed', (request) => wrong.push(`${name} at ${width}: ${request.url()} is not there`));
    await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
    for (name of pages) {
      await page.goto(pathToFileURL(path.resolve(site, name)).href, { waitUntil: 'load' });
      const found = await page.evaluate(() => ({
        // Wide tables and code may scroll by themselves, the text may not.
        overflow: Math.max(...[...document.querySelectorAll('html, main, main > p, main > div:not(.table-wrapper)')]
          .map((one) => one.scrollWidth - one.clientWidth)),
        title: document.querySelector('main h1')?.textContent ?? '',
        text: document.querySelector('main')?.getBoundingClientRect().width ?? 0,
      }));
      if (found.overflow > 0) wrong.push(`${name} at ${width}: ${found.overflow} pixels do not fit`);
      if (found.title === '') wrong.push(`${name} at ${width}: it has no title`);
      // The contents at the side leave room for the text.
      if (found.text < Math.min(width - 40, 600)) wrong.push(`${name} at ${width}: ${found.text} pixels for the text`);
      if (shots) {
        const file = `${name.replaceAll('/', '-')}-${width}.png`;
        await page.screenshot({ path: path.join(shots, file) });
      }
    }
    await page.close();
  }
});
