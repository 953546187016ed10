"use strict";
// A line chart over steps: bands, thresholds, stages behind, values under the mouse. Plain SVG.

const CHART = { width: 480, height: 200, left: 54, right: 8, top: 10, bottom: 24 };
const HEADROOM = 0.08;
const STAGE_NAMES = ["clue", "decision"];

/**
 * lines: [{label, tone, dash, points: [[step, value]], band: [[step, low, high]], measure}]; tone is a number (see
 * style.css), measure what the label says without the name of a run, where there are several
 * levels: [{value, label, below}] thresholds; stages: [{from, to, stage}]; format: value -> text; span: [first, last]
 * stacked: lines are parts of a whole; log: powers of ten; pick(step): called on a click
 */
function chart({ title, lines, levels = [], stages = [], format = number, stacked = false, log = false, share = false, span, pick, note }) {
  lines = lines.filter((line) => line.points.length);
  if (!lines.length) return null;
  const steps = [...new Set(lines.flatMap((line) => line.points.map((p) => p[0])))].sort((a, b) => a - b);
  if (stacked) lines = stack(lines, steps);
  const scale = scales(lines, levels, span ?? [steps[0], steps.at(-1)], { log, share, stacked });
  const drawing = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": title });
  drawing.append(...stages.map((s) => stageBand(s, scale)), ...axes(scale, format));
  const right = CHART.width - CHART.right;
  for (const { value } of levels)
    drawing.append(svg("line", { class: "level", x1: CHART.left, x2: right, y1: scale.y(value), y2: scale.y(value) }));
  for (const line of stacked ? lines.toReversed() : lines) drawing.append(...drawn(line, scale, stacked));
  // over the lines, or nobody could read them
  for (const level of levels)
    drawing.append(svg("text", { class: "level-name", x: right - 2, y: scale.y(level.value) + (level.below ? 13 : -5) }, level.label));
  const cursor = svg("line", { class: "cursor", y1: CHART.top, y2: CHART.height - CHART.bottom, visibility: "hidden" });
  drawing.append(cursor);
  const values = el("div", { class: "values", hidden: true });
  hover(drawing, cursor, values, { steps, lines, stages, scale, format, pick });
  return el(
    "figure",
    { class: "chart", "data-title": title },
    el("figcaption", {}, title, note ? el("span", { class: "note" }, note) : null),
    el("div", { class: "legend" }, legend(lines).map((line) => el("span", {}, swatch(line), line.label))),
    el("div", { class: "plot" }, drawing, values),
  );
}

function stack(lines, steps) {
  const under = new Map(steps.map((step) => [step, 0]));
  return lines.map((line) => {
    const own = new Map(line.points);
    const parts = steps.map((step) => {
      const low = under.get(step);
      const high = low + Math.max(0, own.get(step) ?? 0);
      under.set(step, high);
      return [step, low, high];
    });
    return { ...line, own, points: parts.map(([s, , high]) => [s, high]), band: parts };
  });
}

function scales(lines, levels, span, { log, share, stacked }) {
  const finite = [
    ...lines.flatMap((line) => [...line.points.map((p) => p[1]), ...(line.band ?? []).flatMap((b) => [b[1], b[2]])]),
    ...levels.map((level) => level.value),
  ].filter((v) => Number.isFinite(v) && (!log || v > 0));
  let low = share || stacked ? 0 : Math.min(...finite, log ? Infinity : 0);
  let high = share ? 1 : Math.max(...finite, log ? -Infinity : 0);
  if (!Number.isFinite(low) || !Number.isFinite(high)) [low, high] = log ? [0.1, 1] : [0, 1];
  if (log) [low, high] = [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high) + 1e-9)];
  if (low === high) high = low + (log ? low * 9 : 1);
  if (!share && !log) [low, high] = [low < 0 ? low - HEADROOM * (high - low) : low, high + HEADROOM * (high - low)];
  const [first, last] = [span[0] - 0.5, span[1] + 0.5];
  const inner = { width: CHART.width - CHART.left - CHART.right, height: CHART.height - CHART.top - CHART.bottom };
  const shareOf = log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  return {
    low, high, log, first, last,
    x: (step) => CHART.left + ((step - first) / (last - first)) * inner.width,
    y: (value) => CHART.height - CHART.bottom - Math.max(-0.02, Math.min(1.02, shareOf(value))) * inner.height,
    step: (x) => first + ((x - CHART.left) / inner.width) * (last - first),
  };
}

function ticks({ low, high, log }) {
  if (log) {
    const powers = Math.round(Math.log10(high / low));
    const every = Math.ceil(powers / 5);
    return Array.from({ length: Math.floor(powers / every) + 1 }, (_, k) => low * 10 ** (k * every));
  }
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k++) found.push(k * step);
  return found;
}

function axes(scale, format) {
  const wanted = Math.max(1, Math.ceil((scale.last - scale.first) / 8));
  const every = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2500, 5000, 10000].find((s) => s >= wanted) ?? wanted;
  const bottom = CHART.height - CHART.bottom;
  const marks = [];
  for (let s = Math.ceil(scale.first / every) * every; s <= scale.last; s += every)
    marks.push(svg("text", { class: "tick middle", x: scale.x(s), y: bottom + 15 }, String(s)));
  return [
    ...ticks(scale).flatMap((value) => [
      svg("line", { class: "grid", x1: CHART.left, x2: CHART.width - CHART.right, y1: scale.y(value), y2: scale.y(value) }),
      svg("text", { class: "tick end", x: CHART.left - 5, y: scale.y(value) + 4 }, format(value)),
    ]),
    ...marks,
  ];
}

function stageBand({ from, to, stage }, scale) {
  const x = scale.x(from - 0.5);
  const kind = STAGE_NAMES.includes(stage) ? stage : "other";
  const box = { x, width: scale.x(to + 0.5) - x, y: CHART.top, height: CHART.height - CHART.top - CHART.bottom };
  return svg("rect", { class: `stage ${kind}`, ...box });
}

function drawn({ points, band, tone, dash, label }, scale, stacked) {
  const shapes = [];
  const fits = (v) => Number.isFinite(v) && (!scale.log || v > 0);
  if (band) {
    const edge = [...band.map(([s, , high]) => [s, high]), ...band.toReversed().map(([s, low]) => [s, low])];
    const path = edge.filter((p) => fits(p[1])).map(([s, v]) => `${scale.x(s)},${scale.y(v)}`);
    shapes.push(svg("polygon", { class: `${stacked ? "part" : "band"} tone${tone}`, points: path.join(" ") }));
  }
  if (stacked) return shapes;
  const pieces = [[]];
  for (const [step, value] of points) fits(value) ? pieces.at(-1).push([step, value]) : pieces.push([]);
  for (const piece of pieces) {
    const path = piece.map(([s, v]) => `${scale.x(s)},${scale.y(v)}`).join(" ");
    const look = { class: `line tone${tone} dash${dash ?? 0}`, "data-label": label };
    if (piece.length === 1) shapes.push(svg("circle", { ...look, cx: path.split(",")[0], cy: path.split(",")[1], r: 2.5 }));
    else if (piece.length) shapes.push(svg("polyline", { ...look, points: path }));
  }
  return shapes;
}

/** Lines of several runs have the run's colour, which is told above all charts; here only which dash is which measure. */
function legend(lines) {
  const measures = new Map(lines.filter((line) => line.measure).map((line) => [line.measure, { label: line.measure, dash: line.dash, tone: 7 }]));
  return measures.size ? [...measures.values()] : lines;
}

function swatch({ tone, dash, own }) {
  const line = svg("line", { class: `line tone${tone} dash${dash ?? 0}${own ? " thick" : ""}`, x1: 0, x2: 22, y1: 6, y2: 6 });
  return svg("svg", { viewBox: "0 0 22 12", class: "swatch", "aria-hidden": "true" }, line);
}

function hover(drawing, cursor, values, { steps, lines, stages, scale, format, pick }) {
  let shown = null;
  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    const step = scale.step(((event.clientX - box.left) / box.width) * CHART.width);
    return steps.reduce((best, s) => (Math.abs(s - step) < Math.abs(best - step) ? s : best));
  };
  const move = (event) => {
    const step = at(event);
    if (step !== shown) {
      shown = step;
      const stage = stages.find((s) => s.from <= step && step <= s.to)?.stage;
      values.replaceChildren(
        el("b", {}, `step ${step}`, stage ? ` · ${stage} stage` : ""),
        ...lines.map((line) => valueLine(line, step, format)).filter(Boolean),
      );
      cursor.setAttribute("x1", scale.x(step));
      cursor.setAttribute("x2", scale.x(step));
    }
    cursor.setAttribute("visibility", "visible");
    values.hidden = false;
    values.classList.toggle("left", scale.x(step) > CHART.width / 2);
  };
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    values.hidden = true;
  };
  drawing.addEventListener("mousemove", move);
  drawing.addEventListener("mouseleave", leave);
  if (pick) {
    drawing.classList.add("pickable");
    drawing.addEventListener("click", (event) => pick(at(event)));
  }
}

function valueLine(line, step, format) {
  const value = line.own ? line.own.get(step) : line.points.find((p) => p[0] === step)?.[1];
  if (value === undefined) return null;
  const range = line.own ? null : line.band?.find((b) => b[0] === step);
  return el("span", {}, swatch(line), `${line.label}: ${format(value)}`, range ? ` (${format(range[1])} to ${format(range[2])})` : "");
}
