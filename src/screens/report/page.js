'use strict';
(() => {
  const { status, charts: data } = JSON.parse(document.getElementById('data').textContent);
  const tip = document.getElementById('tip');
  const at = (id) => document.getElementById(id);
  at('at').textContent = `${new Date(status.at * 1000).toISOString().slice(0, 19).replace('T', ' ')} UTC`;

  // ---- numbers as people read them
  const span = (us) => {
    const s = us / 1e6;
    if (s < 0.001) return `${Math.round(us)} µs`;
    if (s < 1) return `${trim(s * 1e3)} ms`;
    if (s < 60) return `${trim(s)} s`;
    const pad = (n) => String(Math.floor(n)).padStart(2, '0');
    if (s < 3600) return `${Math.floor(s / 60)}m${pad(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${pad(s / 60 % 60)}m`;
    return `${Math.floor(s / 86400)}d${pad(s / 3600 % 24)}h`;
  };
  const trim = (n) => String(Number(n.toPrecision(3)));
  const memory = (kib) => {
    const units = ['KiB', 'MiB', 'GiB', 'TiB'];
    let n = 0;
    while (kib >= 1000 && n < 3) { kib /= 1024; n += 1; }
    return `${trim(kib)} ${units[n]}`;
  };
  const count = (n) => n.toLocaleString('en-US');

  // ---- a canvas that is drawn anew when its size or the colours change
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(['ink', 'soft', 'line', 'ok', 'no', 'cut', 'idle', 'cpu', 'paper']
      .map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  };
  const charts = [];
  const chart = (id, draw, find) => {
    const box = at(id);
    const canvas = document.createElement('canvas');
    canvas.setAttribute('role', 'img');
    box.append(canvas);
    const one = { box, canvas, draw, id };
    charts.push(one);
    if (find) {
      canvas.addEventListener('pointermove', (event) => {
        const text = find(event.offsetX, event.offsetY, box);
        tip.hidden = !text;
        if (!text) return;
        tip.textContent = text;
        const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
        tip.style.left = `${Math.max(4, right)}px`;
        tip.style.top = `${Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)}px`;
      });
      canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
    }
    return one;
  };
  const paint = (one) => {
    const { box, canvas, draw } = one;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const g = canvas.getContext('2d');
    g.scale(ratio, ratio);
    g.font = '11px system-ui, sans-serif';
    g.textBaseline = 'middle';
    draw(g, width, height, colours());
    box.dataset.drawn = 'yes';
  };
  const LEFT = 48, BOTTOM = 20, TOP = 8, RIGHT = 6;
  const narrow = () => innerWidth < 640;

  // Round steps so that about `n` of them fit.
  const steps = (most, n) => {
    const raw = most / n;
    const power = 10 ** Math.floor(Math.log10(raw || 1));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw) || raw;
    const all = [];
    for (let v = 0; v <= most * 1.0001; v += step) all.push(v);
    return all;
  };
  const timeSteps = (from, to, n) => {
    const units = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5,
      1e6, 2e6, 5e6, 1e7, 1.5e7, 3e7, 6e7, 1.2e8, 3e8, 6e8, 9e8, 1.8e9, 3.6e9, 7.2e9, 1.08e10, 2.16e10,
      4.32e10, 8.64e10, 1.728e11, 4.32e11, 8.64e11];
    const step = units.find((u) => u >= (to - from) / n) || 8.64e11;
    const all = [];
    for (let v = Math.ceil(from / step) * step; v <= to; v += step) all.push(v);
    return all;
  };
  // From pixel to pixel: no seams between neighbours.
  const column = (g, a, b, top, bottom) => {
    const from = Math.round(a);
    g.fillRect(from, top, Math.max(1, Math.round(b) - from), bottom - top);
  };
  // Round values on a scale of powers, those between two bounds.
  const TIMES = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 6e7, 6e8, 3.6e9, 3.6e10, 8.64e10, 8.64e11];
  const SIZES = Array.from({ length: 12 }, (_, n) => 1024 * 4 ** n);
  const between = (all, low, high) => {
    const inside = all.filter((v) => v >= low && v <= high);
    return inside.length > 1 ? inside : [...new Set([low, high])];
  };
  const yAxis = (g, width, y, most, c, show = count) => {
    g.textAlign = 'right';
    for (const value of steps(most, 3)) {
      g.fillStyle = c.line;
      g.fillRect(LEFT, Math.round(y(value)), width - LEFT - RIGHT, 1);
      g.fillStyle = c.soft;
      g.fillText(show(Number(value.toPrecision(6))), LEFT - 6, y(value));
    }
  };
  const timeAxis = (g, width, height, c, from = 0, to = data.length, left = LEFT) => {
    const x = (t) => left + (t - from) / (to - from || 1) * (width - left - RIGHT);
    g.textAlign = 'center';
    g.fillStyle = c.soft;
    for (const t of timeSteps(from, to, narrow() ? 4 : 9)) {
      if (x(t) > width - 18) continue;
      g.fillText(t === 0 ? '0' : span(t), Math.max(x(t), left + 6), height - 8);
    }
    return x;
  };

  // ---- slots and ends over time
  const series = data.series.points;
  const step = data.series.width;
  const overlap = (t) => Math.max(1, Math.min(t + step, data.length) - Math.max(t, 0));
  const timeOf = (px, box) => (px - LEFT) / (box.clientWidth - LEFT - RIGHT) * data.length;
  const stretch = (px, box) => series.find((p) => p[0] <= timeOf(px, box) && timeOf(px, box) < p[0] + step);
  chart('use', (g, width, height, c) => {
    const most = Math.max(1, ...series.map((p) => Math.max(p[2], p[1], p[3]) / overlap(p[0])));
    const y = (v) => height - BOTTOM - v / most * (height - BOTTOM - TOP);
    const x = timeAxis(g, width, height, c);
    const bars = (of, colour) => {
      g.fillStyle = colour;
      for (const p of series) {
        const [a, b] = [x(Math.max(0, p[0])), x(Math.min(data.length, p[0] + step))];
        column(g, a, b, y(of(p) / overlap(p[0])), y(0));
      }
    };
    bars((p) => p[2], c.idle);
    bars((p) => p[1], c.ok);
    yAxis(g, width, y, most, c);
    g.lineJoin = 'round';
    g.beginPath();
    series.forEach((p, n) => {
      const middle = x((Math.max(0, p[0]) + Math.min(data.length, p[0] + step)) / 2);
      g[n ? 'lineTo' : 'moveTo'](middle, y(p[3] / overlap(p[0])));
    });
    for (const [colour, wide] of [[c.paper, 4.5], [c.cpu, 1.8]]) {
      g.strokeStyle = colour;
      g.lineWidth = wide;
      g.stroke();
    }
  }, (px, py, box) => {
    const p = stretch(px, box);
    if (!p) return '';
    const per = overlap(p[0]);
    return `${span(Math.max(0, p[0]))}\n${trim(p[1] / per)} of ${trim(p[2] / per)} slots busy\n${trim(p[3] / per)} CPUs in use`;
  });
  chart('pace', (g, width, height, c) => {
    const rate = (p, n) => p[n] / overlap(p[0]) * 1e6;
    const most = Math.max(1e-9, ...series.map((p) => rate(p, 4)));
    const y = (v) => height - BOTTOM - v / most * (height - BOTTOM - TOP);
    const x = timeAxis(g, width, height, c);
    for (const p of series) {
      const [a, b] = [x(Math.max(0, p[0])), x(Math.min(data.length, p[0] + step))];
      g.fillStyle = c.ok;
      column(g, a, b, y(rate(p, 4)), y(0));
      g.fillStyle = c.no;
      column(g, a, b, y(rate(p, 5)), y(0));
    }
    yAxis(g, width, y, most, c, trim);
  }, (px, py, box) => {
    const p = stretch(px, box);
    return p ? `${span(Math.max(0, p[0]))}\n${count(p[4])} ended in ${span(overlap(p[0]))}, ${count(p[5])} failed` : '';
  });

  // ---- nodes over time
  const NAMES = () => (narrow() ? 64 : 96);
  // A row for each of `all`: its name, the width of its stretches, its points, and
  // how much of `colour` a point has; null where nothing is known.
  const heat = (id, all, colour, of, tell) => {
    at(id).style.height = `${Math.min(420, Math.max(44, all.length * 16 + BOTTOM))}px`;
    chart(id, (g, width, height, c) => {
      const left = NAMES();
      const x = timeAxis(g, width, height, c, 0, data.length, left);
      const row = (height - BOTTOM) / Math.max(1, all.length);
      all.forEach(({ name, width: w, points }, n) => {
        const [top, bottom] = [n * row, n * row + Math.max(1, row - 1)];
        for (const p of points) {
          const part = of(p);
          if (part === null) continue;
          const [a, b] = [x(Math.max(0, p[0])), x(Math.min(data.length, p[0] + w))];
          g.fillStyle = c.idle;
          column(g, a, b, top, bottom);
          g.globalAlpha = Math.min(1, part);
          g.fillStyle = c[colour];
          column(g, a, b, top, bottom);
          g.globalAlpha = 1;
        }
        if (row >= 10) {
          g.fillStyle = c.soft;
          g.textAlign = 'left';
          g.fillText(fit(g, name, left - 8), 0, n * row + row / 2);
        }
      });
    }, (px, py, box) => {
      const one = all[Math.floor(py / ((box.clientHeight - BOTTOM) / Math.max(1, all.length)))];
      const t = (px - NAMES()) / (box.clientWidth - NAMES() - RIGHT) * data.length;
      if (!one || t < 0) return '';
      const p = one.points.find((p) => p[0] <= t && t < p[0] + one.width);
      return p && of(p) !== null ? `${one.title || one.name}\n${span(t)}: ${tell(p)}` : '';
    });
  };
  const fit = (g, text, width) => {
    if (g.measureText(text).width <= width) return text;
    while (text.length > 1 && g.measureText(`${text}…`).width > width) text = text.slice(0, -1);
    return `${text}…`;
  };

  heat('heat', data.nodes.map((node) => ({ name: node.node, ...node.series })), 'ok',
    (p) => (p[2] ? p[1] / p[2] : null),
    (p) => `${Math.round(p[1] / p[2] * 100)} % busy, ${count(p[4])} ended, ${count(p[5])} failed`);

  // ---- GPUs over time, where there are any
  if (data.gpus.length) {
    // The first of a node has the node's name, as among the slots.
    const begins = (n) => data.nodes.length > 1 && data.gpus[n].node !== data.gpus[n - 1]?.node;
    const gpus = data.gpus.map((gpu, n) => (
      { ...gpu, title: `${gpu.node}, ${gpu.gpu}`, name: begins(n) ? gpu.node : gpu.gpu.replace('GPU-', '') }));
    const part = (n) => (p) => (p[n] === null ? null : p[n] / 100);
    heat('gpu-load', gpus, 'ok', part(1), (p) => `${p[1]} % busy`);
    heat('gpu-memory', gpus, 'cpu', part(2), (p) => `${p[2]} % of its memory in use`);
  }

  // ---- slots
  const { rows, pieces } = data.gantt;
  let view = [0, Math.max(1, data.length)];
  let drag = null;
  at('gantt').style.height = `${Math.min(900, Math.max(60, rows.length * (rows.length > 100 ? 4 : rows.length > 40 ? 8 : 14) + BOTTOM))}px`;
  const notes = [];
  if (data.gantt.grain > 0 && pieces.some((p) => p[3] > 1)) {
    notes.push(`attempts shorter than ${span(data.gantt.grain)} are drawn together with their neighbours`);
  }
  if (data.gantt.left_out) notes.push(`${count(data.gantt.left_out)} more slots are not shown`);
  at('gantt-note').textContent = notes.join('; ');
  const gantt = chart('gantt', (g, width, height, c) => {
    const left = NAMES();
    const x = timeAxis(g, width, height, c, view[0], view[1], left);
    const row = (height - BOTTOM) / Math.max(1, rows.length);
    const gap = row > 6 ? 1 : 0;
    g.save();
    g.beginPath();
    g.rect(left, 0, width - left, height - BOTTOM);
    g.clip();
    g.fillStyle = c.idle;
    for (let n = 0; n < rows.length; n += 1) g.fillRect(left, n * row, width, row - gap);
    // Failures last: they must not vanish under what is beside them. Of a piece
    // that is many attempts, its share is in their colour.
    for (const layer of [0, 1, 2]) {
      g.fillStyle = [c.ok, c.cut, c.no][layer];
      for (const [n, from, length, many, failed, interrupted] of pieces) {
        const part = [many, interrupted, failed][layer] / many;
        if (!part || from > view[1] || from + length < view[0]) continue;
        const [a, b] = [x(from), x(from + length)];
        const w = (b - a - (b - a > 4 && many === 1 ? 0.8 : 0)) * part;
        g.fillRect(a, n * row, Math.max(layer ? 1.5 : 0.6, w), row - gap);
      }
    }
    if (drag) {
      g.globalAlpha = 0.25;
      g.fillStyle = c.cpu;
      g.fillRect(Math.min(...drag), 0, Math.abs(drag[1] - drag[0]), height - BOTTOM);
      g.globalAlpha = 1;
    }
    g.restore();
    // Names of nodes, where their rows begin.
    g.textAlign = 'left';
    let last = -99;
    rows.forEach(([node, slot], n) => {
      const begins = n === 0 || rows[n - 1][0] !== node;
      if (begins && n > 0) { g.fillStyle = c.paper; g.fillRect(left, n * row - 1, width, 1.5); }
      if ((begins || row >= 13) && n * row - last >= 11) {
        g.fillStyle = c.soft;
        g.fillText(fit(g, row >= 13 && !begins ? `slot ${slot}` : node, left - 8), 0, n * row + Math.max(row, 10) / 2);
        last = n * row;
      }
    });
  }, (px, py, box) => {
    if (drag) return '';
    const left = NAMES();
    const t = view[0] + (px - left) / (box.clientWidth - left - RIGHT) * (view[1] - view[0]);
    const n = Math.floor(py / ((box.clientHeight - BOTTOM) / Math.max(1, rows.length)));
    if (!rows[n] || px < left) return '';
    const near = (view[1] - view[0]) / (box.clientWidth - left) * 2;
    const hit = pieces.filter((p) => p[0] === n && p[1] - near <= t && t <= p[1] + p[2] + near)
      .sort((a, b) => b[4] - a[4])[0];
    const where = `${rows[n][0]}, slot ${rows[n][1]}\n`;
    if (!hit) return `${where}${span(t)}: idle`;
    const [, from, length, many, failed, interrupted, id] = hit;
    // What ran when the report was made has no end, either.
    const stopped = status.state === 'running' ? 'running or interrupted' : 'interrupted';
    const what = many > 1
      ? `${count(many)} tasks from ${id} on, ${count(failed)} failed`
      : `task ${id} ${failed ? 'failed' : interrupted ? stopped : 'finished'}`;
    return `${where}${what}\nfrom ${span(from)} for ${span(length)}`;
  });
  const edge = (event) => Math.max(NAMES(), event.offsetX);
  gantt.canvas.addEventListener('pointerdown', (event) => {
    drag = [edge(event), edge(event)];
    gantt.canvas.setPointerCapture(event.pointerId);
  });
  gantt.canvas.addEventListener('pointermove', (event) => {
    if (!drag) return;
    drag[1] = edge(event);
    paint(gantt);
  });
  gantt.canvas.addEventListener('pointerup', () => {
    if (!drag) return;
    const [a, b] = [Math.min(...drag), Math.max(...drag)];
    drag = null;
    if (b - a > 6) {
      const width = gantt.box.clientWidth - NAMES() - RIGHT;
      const t = (px) => view[0] + (px - NAMES()) / width * (view[1] - view[0]);
      view = [t(a), Math.min(t(b), data.length)];
    }
    paint(gantt);
  });
  gantt.canvas.addEventListener('dblclick', () => {
    view = [0, Math.max(1, data.length)];
    paint(gantt);
  });

  // ---- how long, how large
  const spread = (id, bins, show, ticks) => chart(id, (g, width, height, c) => {
    if (!bins.length) {
      g.fillStyle = c.soft;
      g.textAlign = 'left';
      g.fillText('nothing is known', LEFT, height / 2);
      return;
    }
    const most = Math.max(...bins.map((b) => b[2]));
    const log = (v) => Math.log2(Math.max(1, v));
    const [low, high] = [log(bins[0][0]), log(bins[bins.length - 1][1])];
    const x = (v) => LEFT + (log(v) - low) / (high - low || 1) * (width - LEFT - RIGHT);
    const y = (v) => height - BOTTOM - v / most * (height - BOTTOM - TOP);
    yAxis(g, width, y, most, c);
    g.fillStyle = c.ok;
    for (const [from, to, n] of bins) g.fillRect(x(from) + 0.5, Math.min(y(n), y(0) - 1), Math.max(1, x(to) - x(from) - 1), Math.max(1, y(0) - y(n)));
    g.fillStyle = c.soft;
    g.textAlign = 'center';
    for (const v of between(ticks, bins[0][0], bins[bins.length - 1][1])) {
      g.fillText(show(v), Math.min(Math.max(x(v), LEFT + 12), width - 26), height - 8);
    }
  }, (px, py, box) => {
    if (!bins.length) return '';
    const log = (v) => Math.log2(Math.max(1, v));
    const [low, high] = [log(bins[0][0]), log(bins[bins.length - 1][1])];
    const v = 2 ** (low + (px - LEFT) / (box.clientWidth - LEFT - RIGHT) * (high - low));
    const bin = bins.find((b) => b[0] <= v && v < b[1]);
    return bin ? `${show(bin[0])} to ${show(bin[1])}\n${count(bin[2])} attempts` : '';
  });
  spread('times', data.durations, span, TIMES);
  spread('peaks', data.peaks, memory, SIZES);

  // ---- memory against time
  const points = data.gantt.points;
  if (data.gantt.step > 1) at('scatter-note').textContent = `one of ${count(data.gantt.step)} attempts`;
  const place = (box) => {
    const [w, h] = [box.clientWidth, box.clientHeight];
    const range = (n) => points.reduce(([a, b], p) => [Math.min(a, Math.max(1, p[n])), Math.max(b, p[n])], [Infinity, 1]);
    const [t, m] = [range(1), range(2)];
    const scale = (v, [a, b], from, to) => from + (Math.log(Math.max(1, v)) - Math.log(a)) / (Math.log(b) - Math.log(a) || 1) * (to - from);
    return {
      t, m,
      x: (v) => scale(v, t, LEFT + 10, w - RIGHT - 12),
      y: (v) => scale(v, m, h - BOTTOM - 8, TOP + 4),
    };
  };
  chart('scatter', (g, width, height, c) => {
    if (!points.length) {
      g.fillStyle = c.soft;
      g.textAlign = 'left';
      g.fillText('nothing is known', LEFT, height / 2);
      return;
    }
    const { t, m, x, y } = place(at('scatter'));
    g.textAlign = 'right';
    for (const v of between(SIZES, ...m)) {
      g.fillStyle = c.line;
      g.fillRect(LEFT, Math.round(y(v)), width - LEFT - RIGHT, 1);
      g.fillStyle = c.soft;
      g.fillText(memory(v).replace(' ', '').replace('iB', ''), LEFT - 6, y(v));
    }
    g.textAlign = 'center';
    for (const v of between(TIMES, ...t)) g.fillText(span(v), Math.min(Math.max(x(v), LEFT + 14), width - 26), height - 8);
    for (const bad of [0, 1]) {
      g.fillStyle = bad ? c.no : c.ok;
      g.globalAlpha = points.length > 400 ? 0.45 : 0.75;
      for (const p of points) {
        if (p[4] !== bad) continue;
        g.beginPath();
        g.arc(x(p[1]), y(p[2]), points.length > 400 ? 2.2 : 3.2, 0, 7);
        g.fill();
      }
    }
    g.globalAlpha = 1;
  }, (px, py, box) => {
    if (!points.length) return '';
    const { x, y } = place(box);
    const [best, p] = points.reduce((near, p) => {
      const d = Math.hypot(x(p[1]) - px, y(p[2]) - py);
      return d < near[0] ? [d, p] : near;
    }, [14, null]);
    return best < 14 ? `task ${p[0]}${p[4] ? ' failed' : ''}\n${span(p[1])}, ${memory(p[2])}, CPU ${span(p[3])}` : '';
  });

  const all = () => charts.forEach(paint);
  all();
  addEventListener('resize', all);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', all);
})();
