"use strict";
// A run at a glance, or several side by side.

const SWITCH = "stage/switch";

/** Panels: metric, label. `ema` marks the scheduler's own averages (dashed). */
const PANELS = [
  { title: "Games won", share: true, note: "band: 95 % interval", lines: [["win/civilian", "civilians"], ["win/spy", "spy"]] },
  {
    title: "Decision accuracy", share: true,
    note: "thresholds are for the dashed average",
    lines: [["votes/plurality", "plurality is the spy"], ["votes/accuracy", "single votes"], ["stage/accuracy", "average of the scheduler", 1]],
    levels: (s) => [
      { value: s.accuracy_up, label: `enough, from decisions to clues: ${number(s.accuracy_up)}` },
      { value: 1 - s.error_up, label: `too low, from clues to decisions: ${number(1 - s.error_up)}`, below: true },
    ],
  },
  {
    title: "Votes that name nobody",
    lines: [["votes/na", "abstain (N/A)"], ["votes/invalid", "unreadable"], ["stage/na", "average of the scheduler", 1]],
    percent: true,
    levels: (s) => [
      { value: s.na_down, label: `few enough, from decisions to clues: ${number(s.na_down)}` },
      { value: s.na_up, label: `too many, from clues to decisions: ${number(s.na_up)}` },
    ],
  },
  { title: "Baselines of the roles", lines: [["baseline/civilian", "civilian"], ["baseline/spy", "spy"]] },
  { title: "Rewards", lines: [["reward/clue/civilian", "clues of civilians"], ["reward/clue/spy", "clues of the spy"], ["reward/decision", "decisions"]] },
  { title: "KL to the start (a token)", lines: [["update/kl", "all"], ["update/kl/clue/civilian", "civilian clues"], ["update/kl/clue/spy", "spy clues"], ["update/kl/decision/civilian", "decisions"]] },
  { title: "Entropy (nats a token)", lines: [["update/entropy", "all"], ["update/entropy/clue/civilian", "civilian clues"], ["update/entropy/clue/spy", "spy clues"], ["update/entropy/decision/civilian", "decisions"]] },
  { title: "Sampler and trainer: difference of log-probs", log: true, lines: [["update/sampler_difference", "mean"], ["update/sampler_difference/max", "largest"]] },
  { title: "Sight: change of log-probs when blinded", lines: [["sight", "mean change"]] },
  { title: "Gradient norm", lines: [["update/gradient_norm", "norm"]] },
  { title: "Length (tokens)", lines: [["clues/tokens", "clue"], ["votes/tokens", "vote"]] },
  { title: "Defects of speech", percent: true, lines: [["clues/malformed", "clues unreadable"], ["clues/repeated", "clues repeated"], ["clues/cut_off", "clues cut off"], ["votes/cut_off", "votes cut off"]] },
];

/** Stages as runs of steps. Example: `[{from: 0, to: 11, stage: "decision"}, …]` */
function stagesOf(metrics) {
  const found = [];
  for (const m of metrics) {
    const last = found.at(-1);
    if (last && last.stage === m.stage && m.step === last.to + 1) last.to = m.step;
    else if (m.stage) found.push({ from: m.step, to: m.step, stage: m.stage });
  }
  return found;
}

function glance(runs, pick) {
  const single = runs.length === 1;
  const stages = single ? stagesOf(runs[0].metrics) : [];
  const all = runs.flatMap((run) => run.metrics.map((m) => m.step));
  const span = [Math.min(...all), Math.max(...all)];
  const charts = PANELS.map((panel) => {
    const settings = runs[0].info.config?.credit?.stages;
    const measured = single && settings?.schedule === "measured" && panel.levels;
    const levels = measured ? panel.levels(settings).filter((level) => Number.isFinite(level.value)) : [];
    const format = panel.share || panel.percent ? percent : number;
    return chart({ ...panel, lines: linesOf(panel, runs), levels, stages, format, span, pick: single ? pick : undefined });
  });
  return el(
    "div",
    { class: "glance" },
    runs.map((run) => timeline(run, single)),
    el("div", { class: "charts" }, charts, single ? secondsChart(runs[0].metrics, pick) : secondsCompared(runs)),
    single ? settingsTable(runs[0]) : null,
  );
}

function linesOf(panel, runs) {
  return runs.flatMap((run, r) =>
    panel.lines.map(([key, label, ema], k) => {
      const known = run.metrics.filter((m) => key in m);
      const intervals = run.intervals[key];
      const band = intervals && run.metrics.map((m, i) => intervals[i] && [m.step, ...intervals[i]]).filter(Boolean);
      return {
        label: runs.length === 1 ? label : `${run.name}: ${label}`,
        tone: runs.length === 1 ? (ema ? 0 : k) : r,
        dash: runs.length === 1 ? (ema ? 1 : 0) : k,
        points: known.map((m) => [m.step, Number(m[key])]),
        band: band?.length && runs.length === 1 ? band : undefined,
      };
    }),
  );
}

function timeline(run, single) {
  const stages = stagesOf(run.metrics);
  if (!stages.length) return null;
  const first = stages[0].from;
  const total = stages.at(-1).to - first + 1;
  const switches = run.metrics.filter((m) => m[SWITCH]);
  const width = 1000;
  const x = (step) => ((step - first) / total) * width;
  const blocks = stages.map(({ from, to, stage }) => {
    const kind = STAGE_NAMES.includes(stage) ? stage : "other";
    const wide = x(to + 1) - x(from);
    const why = switches.find((m) => m.step === from - 1)?.[SWITCH];
    return svg("g", {},
      svg("title", {}, `${stage} stage, steps ${from} to ${to}${why ? `\n${why}` : ""}`),
      svg("rect", { class: `stage solid ${kind}`, x: x(from), y: 0, width: wide, height: 26 }),
      wide > 90 ? svg("text", { class: "stage-name", x: x(from) + wide / 2, y: 17 }, `${stage} ${from}–${to}`) : null);
  });
  const reasons = switches.map((m) =>
    el("li", {}, single ? el("a", { href: link(run.name, "games", { step: m.step }) }, `step ${m.step}`) : `step ${m.step}`, " ", spoken(m[SWITCH])));
  return el("section", { class: "timeline" },
    el("h2", {}, single ? "Stages" : `Stages of ${run.name}`),
    svg("svg", { viewBox: `0 0 ${width} 26`, class: "strip", preserveAspectRatio: "none", role: "img", "aria-label": "stages" }, blocks),
    reasons.length ? el("ol", { class: "switches" }, reasons) : el("p", { class: "note" }, "no switch yet"));
}

function secondsChart(metrics, pick) {
  const parts = [...new Set(metrics.flatMap((m) => Object.keys(m)))].filter((k) => k.startsWith("seconds/") && k !== "seconds/step");
  const lines = parts.map((key, k) => ({
    label: key.slice("seconds/".length), tone: k, points: metrics.filter((m) => key in m).map((m) => [m.step, Number(m[key])]),
  }));
  const rest = metrics.filter((m) => "seconds/step" in m)
    .map((m) => [m.step, Number(m["seconds/step"]) - parts.reduce((sum, key) => sum + Number(m[key] ?? 0), 0)]);
  lines.push({ label: "everything else", tone: parts.length, points: rest });
  return chart({ title: "Where the seconds of a step went", lines, stacked: true, format: (v) => `${number(v)} s`, pick });
}

function secondsCompared(runs) {
  return chart({ title: "Seconds of a step", lines: linesOf({ lines: [["seconds/step", "step"]] }, runs), format: (v) => `${number(v)} s` });
}

function settingsTable(run) {
  const rows = [];
  const walk = (tree, prefix) => {
    for (const [key, value] of Object.entries(tree ?? {}))
      if (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length) walk(value, `${prefix}${key}.`);
      else rows.push(el("tr", {}, el("th", {}, spoken(prefix + key)), el("td", {}, spoken(JSON.stringify(value)))));
  };
  const { config, ...rest } = run.info;
  walk(rest, "");
  walk(config, "config.");
  return el("details", { class: "settings" }, el("summary", {}, "Settings and versions"), el("table", {}, rows));
}
