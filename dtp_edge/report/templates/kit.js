/* What every chart here needs: drawing at the width it has, values under the pointer and under the arrow
   keys, and one button for light and dark. The charts themselves are Observable Plot's. */
"use strict";
const kit = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const drawn = [];
  const clip = (text, limit) => (text.length <= limit ? text : text.slice(0, Math.ceil(limit * 0.6)) + "…" + text.slice(-Math.floor(limit * 0.4) + 1));
  const digits = (x, n = 3) => (x === 0 ? "0" : Math.abs(x) < 1e-4 ? x.toExponential(n - 1) : Number(x.toPrecision(n)).toLocaleString("en", { maximumFractionDigits: 8, useGrouping: false }));
  const ms = (x) => (x !== 0 && Math.abs(x) < 0.01 ? digits(1000 * x) + " µs" : digits(x) + " ms");
  const percent = (x, places = 1) => (100 * x).toFixed(places) + " %";
  /* How values of what a run is judged by are told: shares in percent, others in their own unit. */
  const told = (head) => (x, places = 1) => (!head || head.unit === "%" ? percent(x, places) : `${x.toFixed(head.decimals)} ${head.unit}`.trim());
  const word = (head) => (!head || head.name.includes("accuracy") ? "accuracy" : head.name);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const bytes = (x) => {
    let i = 0;
    while (x >= 1024 && i < 4) { x /= 1024; i += 1; }
    return digits(x) + " " + units[i];
  };
  const tip = { fill: "var(--paper)", stroke: "var(--line)", textColor: "var(--ink)", lineWidth: 30, lineHeight: 1.3, fontSize: 12 };

  /* Show a chart. `make(width)` returns Plot's options; `points(plot)` the values that the arrow keys
     walk through, as {x, y, text} in the drawing's own pixels. */
  function show(id, make, points) {
    const box = document.getElementById(id);
    if (!box) return;
    const chart = { box, make, points, width: 0, at: -1 };
    drawn.push(chart);
    draw(chart, box.clientWidth);
    box.addEventListener("keydown", (event) => walk(chart, event));
    box.addEventListener("blur", () => leave(chart));
  }

  function draw(chart, width) {
    if (width < 50) return;
    chart.width = width;
    const svg = Plot.plot({ width, style: { fontFamily: "inherit", fontSize: "12px" }, ...chart.make(width) });
    svg.setAttribute("aria-hidden", "true"); // the group around it has the label, the table the figures
    chart.box.replaceChildren(svg);
    chart.svg = svg;
    chart.list = null;
  }

  function redraw(id) {
    for (const chart of drawn) if (!id || chart.box.id === id) draw(chart, chart.box.clientWidth);
  }

  function walk(chart, event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined || !chart.points) return;
    event.preventDefault();
    chart.list ??= chart.points(chart.svg);
    if (!chart.list.length) return;
    chart.at = Math.max(0, Math.min(chart.list.length - 1, chart.at + step));
    const point = chart.list[chart.at];
    chart.box.parentElement.querySelector(".reading").textContent = point.text;
    const frame = chart.svg.getBoundingClientRect();
    const scale = frame.width / chart.svg.viewBox.baseVal.width;
    const where = { clientX: frame.left + point.x * scale, clientY: frame.top + point.y * scale, pointerType: "mouse", bubbles: true };
    chart.svg.dispatchEvent(new PointerEvent("pointerenter", where));
    chart.svg.dispatchEvent(new PointerEvent("pointermove", where));
  }

  function leave(chart) {
    chart.svg?.dispatchEvent(new PointerEvent("pointerleave", { pointerType: "mouse" }));
    const reading = chart.box.parentElement.querySelector(".reading");
    if (reading) reading.textContent = "";
    chart.at = -1;
  }

  /* A row of buttons of which one is pressed. */
  function choice(id, start, then) {
    const box = document.getElementById(id);
    if (!box) return;
    box.hidden = false;
    const set = (view) => {
      for (const button of box.children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
      then(view);
    };
    box.addEventListener("click", (event) => event.target.dataset.view && set(event.target.dataset.view));
    set(start);
  }

  function theme() {
    const button = document.getElementById("theme");
    if (!button) return;
    const root = document.documentElement;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
    const tell = () => { button.setAttribute("aria-pressed", String(dark())); button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", "Dark mode"); };
    button.hidden = false;
    button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; tell(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
    tell();
  }

  theme();
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach((c) => c.box.clientWidth !== c.width && draw(c, c.box.clientWidth)), 120);
  });
  addEventListener("keydown", (event) => event.key === "Escape" && drawn.forEach(leave)); // what hangs over the page
  addEventListener("beforeprint", () => drawn.forEach((c) => draw(c, 660)));
  addEventListener("afterprint", () => redraw());
  return { data, show, redraw, choice, clip, digits, ms, percent, told, word, bytes, units, tip };
})();
