// A headless browser judges a report: it opens without any network, prints no
// error, fits the window at 1280 and 400 pixels, in light and dark, every chart is
// drawn, and its figures are those that `pytf status --json` told.
//
//   node judge.mjs REPORT STATUS_JSON [SCREENSHOTS]
//
// CHROMIUM is the browser. With a folder for screenshots it leaves them there.

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { judge } from './browser.mjs';

const [report, statusFile, shots] = process.argv.slice(2);
const status = JSON.parse(fs.readFileSync(statusFile, 'utf8'));
await judge(async (browser, wrong) => {
  for (const width of [1280, 400]) {
    for (const scheme of ['light', 'dark']) {
      const which = `${width} ${scheme}`;
      const page = await browser.newPage();
      page.on('console', (message) => {
        if (['error', 'warning', 'warn'].includes(message.type())) wrong.push(`${which}: console: ${message.text()}`);
      });
      page.on('pageerror', (error) => wrong.push(`${which}: ${error}`));
      page.on('dialog', async (dialog) => {
        wrong.push(`${which}: a dialog: ${dialog.message()}`);
        await dialog.dismiss();
      });
      page.on('request', (request) => {
        const url = request.url();
        if (!url.startsWith('file:') && !url.startsWith('data:')) wrong.push(`${which}: asks for ${url}`);
      });
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
      await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
      await page.goto(pathToFileURL(path.resolve(report)).href, { waitUntil: 'load' });
      const found = await page.evaluate(() => {
        const number = (id) => Number(document.getElementById(id)?.textContent.replaceAll(',', ''));
        // A canvas of one colour has nothing on it.
        const colours = (canvas) => {
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        };
        const charts = [...document.querySelectorAll('.chart')];
        const rows = [...document.querySelectorAll('#nodes tbody tr')];
        const cell = (row, n) => Number(row.cells[n].textContent.replaceAll(',', ''));
        return {
          at: document.getElementById('at').textContent,
          tasks: ['total', 'finished', 'failed', 'left'].map((name) => number(`f-${name}`)),
          nodes: rows.map((row) => [row.cells[0].textContent, cell(row, 3), cell(row, 4)]),
          gpus: [...document.querySelectorAll('#gpus tbody tr')]
            .map((row) => [row.cells[0].textContent, row.cells[1].textContent, cell(row, 3), row.cells[5].textContent]),
          failures: [...document.querySelectorAll('details[data-id]')].map((one) => Number(one.dataset.id)),
          blank: charts.filter((chart) => colours(chart.querySelector('canvas')) < 3).map((chart) => chart.id),
          charts: charts.length,
          overflow: document.documentElement.scrollWidth - innerWidth,
          background: getComputedStyle(document.body).backgroundColor,
          smallest: Math.min(...[...document.querySelectorAll('body *')]
            .filter((one) => one.textContent.trim() && one.tagName !== 'SCRIPT')
            .map((one) => parseFloat(getComputedStyle(one).fontSize))),
        };
      });
      const claim = (holds, text) => holds || wrong.push(`${which}: ${text}`);
      const { total, finished, failed, left } = status.tasks;
      const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
      claim(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/.test(found.at), `date ${found.at}`);
      claim(same(found.tasks, [total, finished, failed, left]), `tasks ${found.tasks}`);
      claim(same(found.nodes, status.nodes.map((node) => [node.node, node.finished, node.failed])),
        `nodes ${JSON.stringify(found.nodes)}`);
      claim(found.failures.length === Math.min(failed, 200), `${found.failures.length} failed tasks listed`);
      const percent = (part) => (part === null ? '–' : `${(part * 100).toFixed(0)} %`);
      claim(same(found.gpus, status.gpus.map((gpu) => [gpu.node, gpu.gpu, gpu.tasks, percent(gpu.load)])),
        `GPUs ${JSON.stringify(found.gpus)}`);
      claim(found.charts === (status.gpus.length ? 9 : 7), `${found.charts} charts`);
      claim(status.attempts.ended === 0 || found.blank.length === 0, `blank: ${found.blank}`);
      claim(found.overflow <= 0, `${found.overflow} pixels do not fit`);
      const [brightness] = found.background.match(/\d+/);
      claim((scheme === 'dark') === (Number(brightness) < 128), `background ${found.background}`);
      claim(found.smallest >= 11, `text of ${found.smallest} pixels`);
      if (shots) {
        await page.screenshot({ path: path.join(shots, `${width}-${scheme}.png`), fullPage: true });
      }
      await page.close();
    }
  }
});
