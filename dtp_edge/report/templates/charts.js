/* The charts of report.html, one function each. Every colour is a CSS variable, so light and dark need no redrawing. */
"use strict";
(() => {
  const { data, show, redraw, choice, clip, ms, percent, bytes, tip } = kit;
  const narrow = (width) => width < 520;
  const left = (width) => (narrow(width) ? 104 : 190);
  /* On an axis names lose their beginning: layers of one network differ at the end. */
  const label = (width) => (text) => { const most = narrow(width) ? 14 : 26; return text.length > most ? "…" + text.slice(1 - most) : text; };
  const scaleX = (svg) => svg.scale("x").apply;

  function budgets() {
    const rows = data.budgets;
    if (!rows.length) return;
    const most = Math.max(1, ...rows.flatMap((r) => [r.limit ?? 0, r.high ?? 0, r.measured ?? 0]).map((v) => Math.min(v, 1.6)));
    show("chart-budgets", (width) => ({
      height: 30 * rows.length + 34, marginLeft: narrow(width) ? 84 : 104, marginRight: 20, marginBottom: 30,
      x: { domain: [0, most], tickFormat: (v) => percent(v, 0), label: null, ticks: d3.range(0, most + 0.01, narrow(width) ? 0.5 : 0.2), grid: true },
      y: { domain: rows.map((r) => r.title), label: null, tickSize: 0, padding: 0.4 },
      marks: [
        Plot.barX(rows, { y: "title", x: 1, fill: "var(--dense)", fillOpacity: 0.45, clip: true }),
        Plot.barX(rows, { y: "title", x: "pruned", fill: "var(--pruned)", clip: true }),
        Plot.ruleY(rows.filter((r) => r.high > r.low), { y: "title", x1: "low", x2: "high", stroke: "var(--ink)", strokeWidth: 2, clip: true }),
        Plot.tickX(rows.filter((r) => r.limit !== null), { y: "title", x: "limit", stroke: "var(--limit)", strokeWidth: 2.5, insetTop: -4, insetBottom: -4, clip: true }),
        Plot.dot(rows.filter((r) => r.measured !== null), { y: "title", x: "measured", r: 4.5, fill: "var(--paper)", stroke: "var(--measured)", strokeWidth: 2 }),
        Plot.tip(rows, Plot.pointerY({ y: "title", x: "pruned", title: (r) => `${r.title}\n${r.text}`, ...tip })),
      ],
    }), (svg) => rows.map((r) => ({ x: scaleX(svg)(r.pruned), y: svg.scale("y").apply(r.title) + 8, text: `${r.title}: ${r.text}` })));
  }

  function accuracy() {
    const rows = data.accuracy, shares = data.headline.unit === "%", percent = kit.told(data.headline);
    if (!rows.length) return;
    const values = rows.flatMap((r) => [r.value, r.low ?? r.value, r.high ?? r.value]);
    const room = Math.max(shares ? 0.01 : 1e-9, 0.08 * (Math.max(...values) - Math.min(...values)));
    const low = Math.min(...values) - room, high = Math.max(...values) + room;
    const best = shares && Math.max(...values) <= 1 ? Math.min(1, high) : high;
    const text = (r) => `${r.name}: ${percent(r.value, 2)}` + (r.low === null ? "" : ` (${percent(r.low)} to ${percent(r.high)})`);
    show("chart-accuracy", (width) => ({
      height: 26 * rows.length + 34, marginLeft: 84, marginRight: 68, marginBottom: 30,
      x: { domain: [low, best], tickFormat: (v) => percent(v, best - low < 0.06 ? 1 : 0), label: null, grid: true, ticks: narrow(width) ? 3 : 7 },
      y: { domain: rows.map((r) => r.name), label: null, tickSize: 0 },
      marks: [
        Plot.ruleY(rows.filter((r) => r.low !== null), { y: "name", x1: "low", x2: "high", stroke: "var(--quiet)", strokeWidth: 2 }),
        Plot.dot(rows, { y: "name", x: "value", r: 5, fill: (r) => (r.name === "Pruned" || r.name === "int8" ? "var(--pruned)" : "var(--paper)"), stroke: "var(--pruned)", strokeWidth: 2 }),
        Plot.text(rows, { y: "name", x: (r) => r.high ?? r.value, text: (r) => percent(r.value), dx: 10, textAnchor: "start", fill: "var(--ink)" }),
        Plot.tip(rows, Plot.pointerY({ y: "name", x: "value", title: text, ...tip })),
      ],
    }), (svg) => rows.map((r) => ({ x: scaleX(svg)(r.value), y: svg.scale("y").apply(r.name), text: text(r) })));
  }

  /* Layers: each knows where it starts when they run one after the other. */
  function timeline() {
    let dense = 0, pruned = 0;
    const rows = data.layers.map((row, i) => {
      const out = { ...row, i, denseStart: dense, prunedStart: pruned };
      dense += row.dense; pruned += row.pruned;
      return { ...out, denseEnd: dense, prunedEnd: pruned };
    });
    return { rows, dense, pruned };
  }
  const gone = (r) => r.dense > 0 && r.pruned === 0; // with its branch
  const layerText = (r) => `${r.name}\n${r.kernel}\n${ms(r.dense)} → ${gone(r) ? "gone" : ms(r.pruned)}\noutput ${r.shapes}\nMACs ${r.macs}`;
  const spoken = (r) => layerText(r).replaceAll("\n", ", ");

  function kernelColours(rows) {
    const time = d3.rollups(rows, (v) => d3.sum(v, (r) => r.dense), (r) => r.kernel).sort((a, b) => b[1] - a[1]);
    const names = time.filter(([, spent]) => spent > 0).map(([name]) => name);
    const colour = new Map(names.map((name, i) => [name, `var(--c${Math.min(i, 6) + 1})`]));
    const legend = document.getElementById("kernels");
    const shown = names.length > 7 ? [...names.slice(0, 6), "other kernels"] : names;
    shown.forEach((name, i) => {
      const item = document.createElement("li"), key = document.createElement("span");
      key.className = "key";
      key.style.background = `var(--c${i + 1})`;
      item.append(key, name);
      legend.append(item);
    });
    return (row) => colour.get(row.kernel) ?? "var(--dense)";
  }

  function strip({ rows, dense, pruned }) {
    const fill = kernelColours(rows);
    const bars = rows.flatMap((r) => [{ ...r, y: "dense", a: r.denseStart, b: r.denseEnd }, { ...r, y: "pruned", a: r.prunedStart, b: r.prunedEnd }]);
    const totals = [{ y: "dense", x: dense }, { y: "pruned", x: pruned }];
    show("chart-strip", (width) => ({
      height: 116, marginLeft: 56, marginRight: 80, marginBottom: 30,
      x: { domain: [0, Math.max(dense, pruned)], label: null, tickFormat: (v) => ms(v), ticks: narrow(width) ? 3 : 7 },
      y: { domain: ["dense", "pruned"], label: null, tickSize: 0, padding: 0.18 },
      marks: [
        Plot.barX(bars, { y: "y", x1: "a", x2: "b", fill, stroke: "var(--paper)", strokeWidth: rows.length > 120 ? 0.2 : 0.7 }),
        Plot.text(totals, { y: "y", x: "x", text: (t) => ms(t.x), dx: 6, textAnchor: "start", fontWeight: 600 }),
        Plot.tip(bars, Plot.pointer({ y: "y", x: (r) => (r.a + r.b) / 2, title: layerText, ...tip })),
      ],
    }), (svg) => bars.filter((r) => r.y === "pruned").map((r) => ({ x: scaleX(svg)((r.a + r.b) / 2), y: svg.scale("y").apply("pruned") + 12, text: spoken(r) })));
  }

  function layers(time) {
    let rows = time.rows, waterfall = true;
    show("chart-layers", (width) => {
      const band = waterfall ? Math.max(7, Math.min(18, 900 / rows.length)) : 22;
      const named = rows.length * 12 <= rows.length * band ? null : new Set(namesThatFit(rows, band));
      return {
        height: band * rows.length + 36, marginLeft: left(width), marginRight: 24, marginTop: 6, marginBottom: 30,
        x: { domain: [0, Math.max(...rows.map((r) => (waterfall ? Math.max(r.denseEnd, r.prunedEnd) : Math.max(r.dense, r.pruned))), 1e-9)], label: null, tickFormat: (v) => ms(v), ticks: narrow(width) ? 3 : 7, grid: true },
        y: { type: "band", domain: rows.map((r) => r.i), label: null, tickSize: 0, padding: band > 10 ? 0.22 : 0.1, tickFormat: (i) => (named && !named.has(i) ? "" : label(width)(time.rows[i].name)) },
        marks: [
          Plot.barX(rows, { y: "i", x1: waterfall ? "denseStart" : 0, x2: waterfall ? "denseEnd" : "dense", fill: "var(--dense)", insetBottom: waterfall ? band * 0.35 : 0 }),
          Plot.barX(rows, { y: "i", x1: waterfall ? "prunedStart" : 0, x2: waterfall ? "prunedEnd" : "pruned", fill: "var(--pruned)", insetTop: waterfall ? band * 0.35 : 5, insetBottom: waterfall ? 0 : 5 }),
          Plot.text(rows.filter(gone), { y: "i", x: waterfall ? "prunedStart" : 0, text: () => "✕", dx: waterfall ? 0 : 6, fontSize: Math.min(10, band), fill: "var(--c2)" }),
          Plot.tip(rows, Plot.pointerY({ y: "i", x: waterfall ? "prunedEnd" : "pruned", title: layerText, ...tip })),
        ],
      };
    }, (svg) => rows.map((r) => ({ x: scaleX(svg)(waterfall ? r.prunedEnd : r.pruned), y: svg.scale("y").apply(r.i) + 4, text: spoken(r) })));
    choice("layer-view", rows.length > 60 ? "slowest" : "waterfall", (view) => {
      waterfall = view === "waterfall";
      rows = waterfall ? time.rows : [...time.rows].sort((a, b) => b.pruned - a.pruned).slice(0, 20);
      redraw("chart-layers");
    });
  }

  /* The largest layers that can be named without one name on top of another. */
  function namesThatFit(rows, band) {
    const taken = [];
    for (const r of [...rows].sort((a, b) => b.dense - a.dense)) {
      if (taken.every((i) => Math.abs(i - r.i) * band >= 13)) taken.push(r.i);
    }
    return taken;
  }

  function widths() {
    const all = data.groups.map((g, i) => ({ ...g, i, share: g.kept / Math.max(1, g.total), steps: notches(g) }));
    if (!all.length) return;
    const most = [...all].sort((a, b) => a.share - b.share).slice(0, 30).sort((a, b) => a.i - b.i);
    let rows = all;
    const text = (g) => `${g.name}\n${g.kept} of ${g.total} kept` + (g.step ? `\nsteps of ${g.step}` : "") +
      (g.next === null ? "" : `\nnext step ${g.next}: ` + (g.extra > 0 ? `+${ms(g.extra)}` : g.extra < 0 ? `−${ms(-g.extra)}` : "free"));
    show("chart-widths", (width) => ({
      height: 20 * rows.length + 34, marginLeft: left(width), marginRight: 76, marginTop: 4, marginBottom: 28,
      x: { domain: [0, 1], label: null, tickFormat: (v) => percent(v, 0), ticks: [0, 0.25, 0.5, 0.75, 1].filter((v) => !narrow(width) || v !== 0.25 && v !== 0.75) },
      y: { type: "band", domain: rows.map((g) => g.i), label: null, tickSize: 0, padding: 0.25, tickFormat: (i) => label(width)(all[i].name) },
      marks: [
        Plot.barX(rows, { y: "i", x: 1, fill: "var(--dense)", fillOpacity: 0.6 }),
        Plot.barX(rows, { y: "i", x: "share", fill: "var(--pruned)" }),
        Plot.tickX(rows.flatMap((g) => g.steps.map((x) => ({ i: g.i, x }))), { y: "i", x: "x", stroke: "var(--paper)", strokeWidth: 1.2 }),
        Plot.barX(rows.filter((g) => g.next !== null), { y: "i", x1: "share", x2: (g) => g.next / g.total, fill: "none", stroke: "var(--c2)", strokeWidth: 1.5, strokeDasharray: "3 2", inset: 0.5 }),
        Plot.text(rows, { y: "i", x: 1, text: (g) => `${g.kept} / ${g.total}`, dx: 8, textAnchor: "start", fill: "var(--ink)" }),
        Plot.tip(rows, Plot.pointerY({ y: "i", x: "share", title: text, ...tip })),
      ],
    }), (svg) => rows.map((g) => ({ x: scaleX(svg)(g.share), y: svg.scale("y").apply(g.i) + 6, text: text(g).replaceAll("\n", ", ") })));
    if (all.length > 30) choice("group-view", "first", (view) => { rows = view === "all" ? all : most; redraw("chart-widths"); });
    stairs(all);
  }

  function notches(group) {
    const count = group.step > 1 ? group.total / group.step : 0;
    return count > 1 && count <= 48 ? d3.range(group.step, group.total, group.step).map((w) => w / group.total) : [];
  }

  function stairs(all) {
    const some = all.filter((g) => g.stairs.length > 1);
    if (!some.length) return;
    const select = document.getElementById("stairs-group");
    for (const g of some) select.append(new Option(clip(g.name, 60), String(g.i)));
    let group = d3.greatest(some, (g) => g.total - g.kept);
    select.value = String(group.i);
    document.getElementById("stairs-box").hidden = false;
    const at = (w) => group.stairs.find((s) => s[0] >= w)?.[1];
    show("chart-stairs", (width) => {
      const marks = [[group.kept, "kept", "var(--pruned)"], [group.next, "next", "var(--c2)"]].filter(([w]) => w !== null && at(w) !== undefined);
      return {
        height: 220, marginLeft: 64, marginRight: 20, marginBottom: 40, marginTop: 16,
        x: { label: "channels", domain: [0, group.total], ticks: narrow(width) ? 4 : 8, tickFormat: "d" },
        y: { label: null, tickFormat: (v) => `${kit.digits(v, 5)} ms`, grid: true, ticks: 5, nice: true },
        marks: [
          Plot.line(group.stairs, { x: (s) => s[0], y: (s) => s[1], stroke: "var(--ink)", strokeWidth: 1.5, curve: "step-before" }),
          Plot.dot(marks, { x: (m) => m[0], y: (m) => at(m[0]), r: 5, fill: (m) => (m[1] === "kept" ? m[2] : "var(--paper)"), stroke: (m) => m[2], strokeWidth: 2 }),
          ...marks.map((m) => Plot.text([m], { x: m[0], y: at(m[0]), text: (m) => m[1], dy: m[1] === "kept" ? -14 : 16, dx: m[1] === "kept" ? -3 : 3, textAnchor: m[1] === "kept" ? (m[0] < group.total / 8 ? "start" : "end") : (m[0] > group.total * 0.9 ? "end" : "start"), fill: m[2], stroke: "var(--paper)", strokeWidth: 4, fontWeight: 600 })),
          Plot.tip(group.stairs, Plot.pointerX({ x: (s) => s[0], y: (s) => s[1], title: (s) => `${s[0]} channels: ${ms(s[1])}`, ...tip })),
        ],
      };
    }, (svg) => group.stairs.map((s) => ({ x: scaleX(svg)(s[0]), y: svg.scale("y").apply(s[1]), text: `${s[0]} channels: ${ms(s[1])}` })));
    select.addEventListener("change", () => { group = all[Number(select.value)]; redraw("chart-stairs"); });
  }

  function memory() {
    const m = data.memory;
    if (!m) return;
    const rows = (list) => list.map(([name, live], i) => ({ i, name, live }));
    const dense = rows(m.dense), pruned = rows(m.pruned);
    const text = (r) => `${r.name}\n${bytes(r.live)}` + (dense[r.i] ? ` (dense ${bytes(dense[r.i].live)})` : "");
    const limit = m.far ? null : m.limit;
    const most = Math.max(limit ?? 0, ...m.dense.map((r) => r[1]), ...m.pruned.map((r) => r[1]));
    const unit = 1024 ** Math.min(3, Math.floor(Math.log(Math.max(most, 1)) / Math.log(1024)));
    show("chart-memory", (width) => ({
      height: 248, marginLeft: 64, marginRight: 16, marginBottom: 42,
      x: { label: "layers, in the order they run", labelOffset: 36, ticks: narrow(width) ? 4 : 8, tickFormat: "d" },
      y: { label: null, domain: [0, most * 1.04], ticks: d3.ticks(0, most / unit, 5).map((v) => v * unit), tickFormat: (v) => `${kit.digits(v / unit)} ${kit.units[Math.round(Math.log(unit) / Math.log(1024))]}`, grid: true },
      marks: [
        Plot.areaY(dense, { x: "i", y: "live", fill: "var(--dense)", fillOpacity: 0.55, curve: "step" }),
        Plot.areaY(pruned, { x: "i", y: "live", fill: "var(--pruned)", fillOpacity: 0.8, curve: "step" }),
        limit === null ? null : Plot.ruleY([limit], { stroke: "var(--limit)", strokeWidth: 2, strokeDasharray: "5 3" }),
        Plot.tip(pruned, Plot.pointerX({ x: "i", y: "live", title: text, ...tip })),
      ],
    }), (svg) => pruned.map((r) => ({ x: scaleX(svg)(r.i), y: svg.scale("y").apply(r.live), text: text(r).replace("\n", ": ") })));
  }

  function training() {
    const rows = data.curves;
    if (!rows.length) return;
    const kinds = [["budget_fraction", "cost of the masks"], ["softness_fraction", "softness of the masks"], ["accuracy", kit.word(data.headline)], ["loss", "loss"]].filter(([key]) => rows.some((r) => r[key] !== undefined));
    const long = kinds.flatMap(([key, name]) => rows.filter((r) => r[key] !== undefined).map((r) => ({ ...r, name, value: r[key] })));
    const phases = d3.groups(rows, (r) => r.phase).map(([phase, list]) => ({ phase, from: list[0].step, to: list.at(-1).step }));
    const lossTop = Math.max(1e-9, ...rows.map((r) => r.loss ?? 0)); // drawn on 0..1 like the others, told in its own unit
    const shares = data.headline.unit === "%", head = kit.word(data.headline), held = rows.map((r) => r.accuracy).filter((v) => v !== undefined);
    const low = Math.min(...held), span = Math.max(1e-9, Math.max(...held) - low); // a headline that is no share is drawn from its least to its most
    const height = (r) => (r.name === "loss" ? r.value / lossTop : r.name === head && !shares ? (r.value - low) / span : r.value);
    const told = (r) => `${r.name} ${r.name === "loss" ? kit.digits(r.value) : r.name === head ? kit.told(data.headline)(r.value) : percent(r.value)} at step ${r.step} (${r.phase})`;
    const targets = rows.filter((r) => r.target_fraction !== undefined).map((r) => ({ ...r, name: "cost of the masks" }));
    show("chart-training", (width) => ({
      height: 112 * kinds.length + 90, marginLeft: 48, marginRight: narrow(width) ? 28 : 16, marginTop: 60, marginBottom: 40,
      x: { label: "step", ticks: narrow(width) ? 4 : 8, tickFormat: "d" },
      y: { label: null, domain: [0, 1], ticks: [0, 0.5, 1], tickFormat: (v) => percent(v, 0), grid: true },
      fy: { domain: kinds.map(([, name]) => name), label: null, axis: null, padding: 0.34 },
      marks: [
        Plot.ruleX(phases.slice(1), { x: "from", stroke: "var(--quiet)", strokeDasharray: "2 3" }),
        ...phases.map((p, i) => Plot.text([p], { x: "from", text: "phase", fy: () => kinds[0][1], frameAnchor: "top", dy: narrow(width) && i % 2 ? -48 : -34, dx: 2, textAnchor: "start", fill: "var(--quiet)" })),
        Plot.text(kinds, { fy: (k) => k[1], text: (k) => (k[0] === "loss" ? `loss, 100 % = ${kit.digits(lossTop)}` : k[0] === "accuracy" && !shares ? `${head}, ${kit.told(data.headline)(low)} to ${kit.told(data.headline)(low + span)}` : k[1]), frameAnchor: "top-left", dy: -16, fontWeight: 600, fill: "var(--ink)" }),
        Plot.line(targets, { fy: "name", x: "step", y: "target_fraction", stroke: "var(--limit)", strokeWidth: 1.2, strokeDasharray: "4 3" }),
        Plot.line(long, { fy: "name", x: "step", y: height, z: (r) => `${r.name} ${r.phase}`, stroke: "var(--pruned)", strokeWidth: 1.8 }),
        rows.filter((r) => r.accuracy !== undefined).length > 80 ? null : Plot.dot(long.filter((r) => r.name === head), { fy: "name", x: "step", y: height, r: 2.5, fill: "var(--pruned)" }),
        Plot.tip(long, Plot.pointerX({ fy: "name", x: "step", y: height, title: told, ...tip })),
      ],
    }), (svg) => long.map((r) => ({ x: scaleX(svg)(r.step), y: svg.scale("fy").apply(r.name) + 10, text: told(r) })));
  }

  budgets();
  accuracy();
  if (data.layers.length) {
    const time = timeline();
    strip(time);
    layers(time);
  }
  widths();
  memory();
  training();
})();
