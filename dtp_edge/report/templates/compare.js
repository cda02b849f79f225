/* Accuracy against latency, one picture a model and device, with the Pareto front as a staircase. */
"use strict";
(() => {
  const { data, show, clip, ms, told, word, tip } = kit;
  for (const group of data.groups) {
    const percent = told(group.headline);
    const runs = group.runs.filter((r) => r.accuracy !== null && r.latency_ms !== null);
    if (!runs.length) continue;
    const dense = d3.groups(runs.filter((r) => r.control !== null && r.dense_latency_ms !== null), (r) => `${r.dense_latency_ms} ${r.control}`).map(([, list]) => list[0]);
    const front = runs.filter((r) => r.pareto).sort((a, b) => a.latency_ms - b.latency_ms);
    const most = Math.max(...runs.map((r) => r.latency_ms), ...dense.map((r) => r.dense_latency_ms));
    const text = (r) => `${r.name}\n${clip(r.model, 50)}\n${ms(r.latency_ms)}, ${percent(r.accuracy, 2)}` + (r.asked ? `\nasked: ${clip(r.asked, 50)}` : "");
    show(group.id, (width) => ({
      height: Math.min(420, Math.max(260, width * 0.5)), marginLeft: 56, marginRight: 24, marginBottom: 46, marginTop: 28,
      x: { label: "predicted latency", labelOffset: 38, domain: [0, most * 1.08], tickFormat: (v) => ms(v), ticks: width < 520 ? 3 : 7, grid: true },
      y: { label: word(group.headline), tickFormat: (v) => percent(v), grid: true, nice: true, inset: 10, ticks: 6 },
      marks: [
        Plot.line(front, { x: "latency_ms", y: "accuracy", stroke: "var(--pruned)", strokeWidth: 1.5, curve: "step-after" }),
        Plot.dot(dense, { x: "dense_latency_ms", y: "control", symbol: "square", r: 5, stroke: "var(--quiet)", strokeWidth: 2 }),
        Plot.dot(runs, { x: "latency_ms", y: "accuracy", r: 5, fill: (r) => (r.pareto ? "var(--pruned)" : "var(--paper)"), stroke: (r) => (r.pareto ? "var(--pruned)" : "var(--quiet)"), strokeWidth: 2 }),
        runs.length > 12 ? null : Plot.text(runs, { x: "latency_ms", y: "accuracy", text: (r) => clip(r.name, 22), dy: -12, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 }),
        Plot.tip(runs, Plot.pointer({ x: "latency_ms", y: "accuracy", title: text, ...tip })),
      ],
    }), (svg) => runs.map((r) => ({ x: svg.scale("x").apply(r.latency_ms), y: svg.scale("y").apply(r.accuracy), text: text(r).replaceAll("\n", ", ") })));
  }
})();
