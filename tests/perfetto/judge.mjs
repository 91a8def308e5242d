// The real Perfetto judges a trace: its user interface is served on loopback to
// a headless browser, opens the file as a person's browser would, and is then
// asked by SQL what it understood.
//
//   node judge.mjs FILE EXPECTED_SLICES [EXPECTED_LINKS]
//
// PERFETTO_UI is the folder with Perfetto's web pages, CHROMIUM the browser.
// Prints what Perfetto understood; exit status 1 when that is not what the file
// promises.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import puppeteer from 'puppeteer-core';

const [file, expected] = [process.argv[2], Number(process.argv[3])];
// How many attempts are linked to an earlier one of their task, when that is known.
const links = process.argv[4] === undefined ? null : Number(process.argv[4]);
// How many GPUs have curves, and how many points each kind of them has together.
const gpus = Number(process.env.GPUS ?? 0);
const measured = Number(process.env.MEASURED ?? 0);
// How many slices have each outcome, in the order of the words: '[["exit",7]]'.
const outcomes = process.env.OUTCOMES ?? null;
const pages = process.env.PERFETTO_UI;
const patience = Number(process.env.PATIENCE ?? 300) * 1000;

const types = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'application/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

// Serves Perfetto's pages and, as /trace.json, the file.
const server = http.createServer((request, response) => {
  const name = decodeURIComponent(request.url.split('?')[0]);
  const wanted = name === '/trace.json'
    ? file
    : path.join(pages, path.normalize(name === '/' ? '/index.html' : name));
  const stat = fs.statSync(wanted, { throwIfNoEntry: false });
  if (!stat?.isFile()) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'content-type': types[path.extname(wanted)] ?? 'application/octet-stream',
    'content-length': stat.size,
  });
  fs.createReadStream(wanted).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

// Runs in the page: asks Perfetto's engine, rows as objects.
async function ask(queries) {
  const answers = {};
  for (const [name, sql] of Object.entries(queries)) {
    const result = await globalThis.app.trace.engine.query(sql);
    const columns = result.columns();
    const rows = [];
    for (const row = result.iter({}); row.valid(); row.next()) {
      rows.push(Object.fromEntries(
        columns.map((column) => {
          const value = row.get(column);
          return [column, typeof value === 'bigint' ? Number(value) : value];
        }),
      ));
    }
    answers[name] = rows;
  }
  return answers;
}

const queries = {
  slices: `select count(*) as count, coalesce(max(depth), 0) as depth, coalesce(min(dur), 1) as shortest
           from slice where category = 'task'`,
  // Slices of one slot that lie upon each other.
  overlaps: `select count(*) as count from (
               select ts, dur, lead(ts) over (partition by track_id order by ts) as next
               from slice where category = 'task') where next < ts + dur`,
  unowned: `select count(*) as count from slice s left join thread_track t on s.track_id = t.id
            where s.category = 'task' and t.id is null`,
  outcomes: `select extract_arg(arg_set_id, 'args.outcome') as outcome, count(*) as count
             from slice where category = 'task' group by 1 order by 1`,
  // What is in args for every attempt.
  bare: `select count(*) as count from slice where category = 'task' and (
           extract_arg(arg_set_id, 'args.id') is null or
           extract_arg(arg_set_id, 'args.attempt') is null or
           extract_arg(arg_set_id, 'args.command') is null or
           extract_arg(arg_set_id, 'args.farmer') is null or
           extract_arg(arg_set_id, 'args.outcome') is null)`,
  nodes: `select p.pid, p.name, count(distinct t.utid) as rows from slice s
          join thread_track k on s.track_id = k.id join thread t using (utid)
          left join process p using (upid) where s.category = 'task' group by p.upid order by p.pid`,
  nameless: `select count(distinct t.utid) as count from slice s
             join thread_track k on s.track_id = k.id join thread t using (utid)
             left join process p using (upid)
             where s.category = 'task' and (t.name is null or t.name not like 'slot %' or p.name is null)`,
  marks: `select count(*) as count from slice where category = 'farmer'`,
  links: `select count(*) as count from flow f join slice a on f.slice_out = a.id
          join slice b on f.slice_in = b.id
          where extract_arg(a.arg_set_id, 'args.id') = extract_arg(b.arg_set_id, 'args.id')
            and extract_arg(a.arg_set_id, 'args.attempt') < extract_arg(b.arg_set_id, 'args.attempt')`,
  // The curves of the run: more tasks never run at a time than there are slots.
  curves: `select t.name, count(*) as points, max(c.value) as most from counter c
           join process_counter_track t on c.track_id = t.id join process p using (upid)
           where p.name = 'the whole run' group by t.name order by t.name`,
  // Of each node, and of its GPUs. A curve is named with the key of its values.
  tracks: `select p.name as node, t.name as name, count(*) as points, max(c.value) as most
           from counter c join process_counter_track t on c.track_id = t.id join process p using (upid)
           where p.name <> 'the whole run' group by p.name, t.name order by p.name, t.name`,
  faults: `select name, value from stats
           where severity in ('error', 'data_loss') and value > 0`,
};

let wrong = [];
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  // No network: nothing but this server can be reached.
  args: ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP * 127.0.0.1'],
  protocolTimeout: patience,
});
try {
  const page = await browser.newPage();
  const begun = Date.now();
  await page.goto(`${origin}/#!/?url=${origin}/trace.json`, { waitUntil: 'domcontentloaded' });
  await page.waitForFunction(() => globalThis.app?.trace, { timeout: patience });
  const found = await page.evaluate(ask, queries);
  console.log(`loaded and asked in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  console.log(JSON.stringify(found, null, 1));
  const [slices] = found.slices;
  const claims = [
    [slices.count === expected, `${slices.count} slices, expected ${expected}`],
    [slices.depth === 0, 'slices lie above one another'],
    [slices.shortest > 0, 'a slice is empty or was never closed'],
    [found.overlaps[0].count === 0, `${found.overlaps[0].count} slices overlap the next one of their slot`],
    [outcomes === null || JSON.stringify(found.outcomes.map(({ outcome, count }) => [outcome, count])) === outcomes,
      `outcomes ${JSON.stringify(found.outcomes)}, expected ${outcomes}`],
    [found.unowned[0].count === 0, 'slices that are in no slot'],
    [found.bare[0].count === 0, `${found.bare[0].count} slices lack an argument`],
    [found.nameless[0].count === 0, `${found.nameless[0].count} rows or nodes have no name`],
    [links === null || found.links[0].count === links, `${found.links[0].count} links, expected ${links}`],
    [expected === 0 || found.curves.length >= 3, `curves: ${JSON.stringify(found.curves)}`],
    ...['running tasks', 'CPUs in use', 'queue', 'tasks left'].map((name) => (
      [expected === 0 || gpus > 0 || found.curves.some((curve) => curve.name === `${name} value`), `no curve ${name}`])),
    ...found.nodes.map(({ name: node }) => (
      [found.tracks.some((track) => track.node === node && track.name === 'running tasks value'), `no curve of ${node}`])),
    ...['load', 'memory'].map((kind) => {
      const all = found.tracks.filter((track) => track.name.startsWith('GPU ') && track.name.endsWith(` ${kind} percent`));
      const points = all.reduce((sum, track) => sum + track.points, 0);
      const fit = all.every((track) => track.most >= 0 && track.most <= 100);
      return [all.length === gpus && points === measured && fit,
        `${all.length} curves of GPU ${kind} with ${points} points, expected ${gpus} with ${measured}`];
    }),
    [found.faults.length === 0, `faults: ${JSON.stringify(found.faults)}`],
  ];
  wrong = claims.filter(([holds]) => !holds).map(([, text]) => text);
} catch (error) {
  wrong = [String(error)];
} finally {
  await browser.close();
  server.close();
}
for (const text of wrong) {
  console.error(`wrong: ${text}`);
}
console.log(wrong.length === 0 ? 'Perfetto agrees' : 'Perfetto does not agree');
process.exitCode = wrong.length === 0 ? 0 : 1;
