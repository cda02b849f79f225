/* A sweep: each device's front with its intervals, and the table of cells, chosen and ordered. */
"use strict";
(() => {
  const { data, show, clip, ms, told, word, tip } = kit;
  const percent = told(data.headline);
  data.devices.forEach((device, number) => {
    const points = device.points;
    if (!points.length) return;
    const front = points.filter((p) => p.front).sort((a, b) => a.x - b.x);
    const timed = points.filter((p) => p.measured !== null);
    const dense = device.dense ? [device.dense] : [];
    const error = device.error ?? 0;
    const most = Math.max(...points.map((p) => Math.max(p.x * (1 + error), p.measured ?? 0)), ...dense.map((d) => d.x));
    const text = (p) => `${clip(p.id, 60)}\n${p.text}\n${ms(p.x)} predicted` + (p.measured !== null ? `, ${ms(p.measured)} measured` : "") + `\n${percent(p.y, 2)}` + (p.low !== null ? ` (${percent(p.low)} to ${percent(p.high)})` : "") + (p.knee ? "\nknee" : "");
    const colour = (p) => (p.front ? "var(--pruned)" : "var(--quiet)");
    show(`front-${number}`, (width) => ({
      height: Math.min(420, Math.max(260, width * 0.45)), marginLeft: 56, marginRight: 24, marginBottom: 46, marginTop: 24,
      x: { label: "latency", labelOffset: 38, domain: [0, most * 1.05], tickFormat: (v) => ms(v), ticks: width < 520 ? 3 : 7, grid: true },
      y: { label: word(data.headline), tickFormat: (v) => percent(v), grid: true, nice: true, inset: 10, ticks: 6 },
      marks: [
        Plot.line(front, { x: "x", y: "y", stroke: "var(--pruned)", strokeWidth: 1.5, curve: "step-after" }),
        Plot.ruleX(points.filter((p) => p.low !== null), { x: "x", y1: "low", y2: "high", stroke: colour, strokeOpacity: 0.6 }),
        error ? Plot.ruleY(points, { y: "y", x1: (p) => p.x * (1 - error), x2: (p) => p.x * (1 + error), stroke: colour, strokeOpacity: 0.35 }) : null,
        Plot.dot(dense, { x: "x", y: "y", symbol: "square", r: 5, stroke: "var(--quiet)", strokeWidth: 2 }),
        Plot.dot(timed, { x: "measured", y: "y", symbol: "times", r: 4, stroke: "var(--limit)", strokeWidth: 1.5 }),
        Plot.dot(points.filter((p) => p.knee), { x: "x", y: "y", r: 10, stroke: "var(--c2)", strokeWidth: 2 }),
        Plot.dot(points, { x: "x", y: "y", r: points.length > 60 ? 3 : 5, fill: (p) => (p.front ? "var(--pruned)" : "var(--paper)"), stroke: colour, strokeWidth: 2 }),
        Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: text, ...tip })),
      ],
    }), (svg) => points.map((p) => ({ x: svg.scale("x").apply(p.x), y: svg.scale("y").apply(p.y), text: text(p).replaceAll("\n", ", ") })));
  });

  const box = document.getElementById("choose"), body = document.querySelector("#cells tbody");
  const rows = [...body.rows], kept = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  const selects = [...box.querySelectorAll("select")];
  const key = (select) => select.dataset.by ?? "order";
  const value = (row, name) => (row.dataset[name] === "" ? -Infinity : Number(row.dataset[name]));
  function choose() {
    const chosen = Object.fromEntries(selects.map((s) => [key(s), s.value]));
    const order = chosen.order === "latency" ? (a, b) => value(a, "latency") - value(b, "latency") : (a, b) => value(b, "accuracy") - value(a, "accuracy");
    body.replaceChildren(...(chosen.order ? [...rows].sort(order) : rows));
    for (const row of rows) row.hidden = (chosen.device && row.dataset.device !== chosen.device) || (chosen.state && row.dataset.state !== chosen.state);
    const seen = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = seen === rows.length ? "" : `${seen} of ${rows.length}`;
  }
  for (const select of selects) {
    if (kept.get(key(select))) select.value = kept.get(key(select));
    select.addEventListener("change", () => {
      choose(); // the choice outlives the page's loading itself anew
      const said = new URLSearchParams(selects.filter((s) => s.value).map((s) => [key(s), s.value]));
      history.replaceState(null, "", `#?${said}`);
    });
  }
  box.hidden = false;
  choose();
})();
