"use strict";
// Held-out games: the start beside what it became, with 95 % intervals. Runs that are compared share their start.

const RAIL = 12;

/** One run's table, or the rows of several runs beside each other. */
function heldOut(runs) {
  runs = runs.map((run, k) => ({ ...run, tone: k })).filter((run) => Array.isArray(run.held_out?.rows));
  if (!runs.length) return null;
  const single = runs.length === 1;
  const names = [...new Set(runs.flatMap((run) => run.held_out.rows.map((row) => row.name)))];
  const rows = names.map((name) => {
    const known = runs.map((run) => ({ tone: run.tone, row: run.held_out.rows.find((row) => row.name === name) })).filter(({ row }) => row);
    return el("tr", { "data-name": name },
      el("td", {}, spoken(known[0].row.label)),
      el("td", { class: "span" }, dumbbell(known)),
      known.map(({ row }) => el("td", { class: "number" },
        el("span", { title: "before and after" }, `${percent(row.before.point)} → ${percent(row.after.point)}`),
        el("small", { title: "difference in percentage points, 95 % interval" }, `${points(row.difference.point)} (${points(row.difference.low)} to ${points(row.difference.high)})`),
        single ? null : verdictOf(row))),
      single ? el("td", {}, verdictOf(known[0].row)) : null);
  });
  const [{ held_out: first }] = runs;
  return el("section", { class: "held card" },
    el("h2", {}, "Held-out games"),
    el("p", { class: "note" }, `${first.games} games on pictures that training never showed. Rings: the start; dots: after ${first.policy} steps; lines: 95 % intervals, on a rail from 0 to 100 %.`),
    el("div", { class: "scroll" }, el("table", {},
      single ? null : el("thead", {}, el("tr", {}, el("th", {}), el("th", {}), runs.map((run) => el("th", {}, swatch(run), spoken(run.name))))),
      el("tbody", {}, rows))));
}

const verdictOf = (row) => el("span", { class: `verdict-chip ${VERDICTS.includes(row.verdict) ? row.verdict : ""}` }, spoken(row.verdict));

const VERDICTS = ["improved", "worse"];

const points = (share) => `${share > 0 ? "+" : ""}${(100 * share).toFixed(0)}`;

/** Shares on one rail: the start's, and below it what became of it in each run. */
function dumbbell(known) {
  const x = (share) => `${100 * Math.max(0, Math.min(1, Number(share)))}%`;
  const mark = ({ point, low, high }, y, tone, look) => svg("g", { class: `tone${tone}` },
    svg("line", { class: "whisker", x1: x(low), x2: x(high), y1: y, y2: y }),
    svg("circle", { class: look, cx: x(point), cy: y, r: 4 }));
  const height = RAIL * (known.length + 1);
  const told = known.map(({ row }) => `${percent(row.before.point)} before, ${percent(row.after.point)} after`).join("; ");
  return svg("svg", { height, role: "img", "aria-label": `${known[0].row.label}: ${told}` },
    [0, 0.25, 0.5, 0.75, 1].map((share) => svg("line", { class: "rail", x1: x(share), x2: x(share), y1: 0, y2: height })),
    mark(known[0].row.before, RAIL / 2, 7, "ring"),
    known.map(({ row, tone }, k) => mark(row.after, RAIL * (k + 1.5), tone, "dot")));
}
