// A headless browser that opens files, reaches nothing else, and judges them.

import puppeteer from 'puppeteer-core';

// Calls `look` with the browser and a list, for what is wrong; says it, and sets the exit status.
export async function judge(look) {
  const wrong = [];
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND'],
  });
  try {
    await look(browser, wrong);
  } catch (error) {
    wrong.push(String(error));
  } finally {
    await browser.close();
  }
  for (const text of wrong) console.error(`wrong: ${text}`);
  console.log(wrong.length === 0 ? 'the browser agrees' : 'the browser does not agree');
  process.exitCode = wrong.length === 0 ? 0 : 1;
}
