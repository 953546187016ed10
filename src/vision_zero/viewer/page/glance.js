"use strict";
// A run at a glance, or several side by side.

const SWITCH = "stage/switch";
const ALARM = "alarm/";

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
  { title: "Sight: change of log-probs when blinded", lines: [["sight", "mean change"], ["sight/clue", "of clues"], ["sight/decision", "of votes"]] },
  { title: "Gradient norm", lines: [["update/gradient_norm", "norm"]] },
  { title: "Length (tokens)", lines: [["clues/tokens", "clue"], ["votes/tokens", "vote"]] },
  { title: "Defects of speech", percent: true, lines: [["clues/malformed", "clues unreadable"], ["clues/repeated", "clues repeated"], ["clues/telling", "clues about roles or votes"], ["clues/cut_off", "clues cut off"], ["votes/cut_off", "votes cut off"]] },
  { title: "Truth of clues", share: true, note: "of those that can be checked", lines: [["clues/true/civilian", "civilians'"], ["clues/true/spy", "the spy's, of its own picture"], ["clues/checked", "can be checked"]] },
  { title: "Words of clues, away from the start's (bits)", lines: [["clues/drift", "divergence"]] },
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
  const [first] = runs;
  if (single && !first.metrics.length) return unmeasured(first);
  const stages = single ? stagesOf(first.metrics) : [];
  const all = runs.flatMap((run) => run.metrics.map((m) => m.step));
  const span = [Math.min(...all), Math.max(...all)];
  const charts = PANELS.map((panel) => {
    const settings = first.info.config?.credit?.stages;
    const measured = single && settings?.schedule === "measured" && panel.levels;
    const levels = measured ? panel.levels(settings).filter((level) => Number.isFinite(level.value)) : [];
    const format = panel.share || panel.percent ? percent : number;
    return chart({ ...panel, note: single ? panel.note : undefined, lines: linesOf(panel, runs), levels, stages, format, span, pick: single ? pick : undefined });
  });
  return el(
    "div",
    { class: "glance" },
    single ? tiles(first) : differences(runs),
    single ? alarms(first) : null,
    single ? timeline(first) : timelines(runs),
    heldOut(runs),
    el("div", { class: "charts" }, charts, single ? secondsChart(first.metrics, pick) : secondsCompared(runs)),
    single ? settingsTable(first) : null,
  );
}

/** Games without training, as an arena's or those with people. */
function unmeasured(run) {
  const games = run.with_games.length;
  return el("div", { class: "glance" },
    el("p", { class: "note" }, games ? "No training here, only games." : "Nothing was measured yet: the first step is being played."),
    settingsTable(run));
}

const FIGURES = [
  ["win/civilian", "games won by civilians", percent, "civilian"], ["win/spy", "by the spy", percent, "spy"], ["votes/accuracy", "votes that name the spy", percent],
  ["votes/na", "votes that abstain", percent], ["update/kl", "KL to the start", number], ["update/entropy", "entropy", number], ["seconds/step", "seconds a step", number],
];
const RECENT = 5;

/** The latest figures, averaged over a few steps since single ones are noisy. */
function tiles(run) {
  const recent = run.metrics.slice(-RECENT);
  const found = FIGURES.map(([key, label, format, kind]) => {
    const values = recent.map((m) => Number(m[key] ?? NaN)).filter(Number.isFinite);
    return values.length ? el("div", { class: `tile ${kind ?? ""}` }, el("b", {}, format(values.reduce((a, b) => a + b) / values.length)), el("span", {}, label)) : null;
  });
  return el("section", { class: "card numbers", title: `averages of the last ${recent.length} steps` }, el("div", { class: "tiles" }, found));
}

function linesOf(panel, runs) {
  return runs.flatMap((run, r) =>
    panel.lines.map(([key, label, ema], k) => {
      const known = run.metrics.filter((m) => key in m);
      const intervals = run.intervals[key];
      const band = intervals && run.metrics.map((m, i) => intervals[i] && [m.step, ...intervals[i]]).filter(Boolean);
      return {
        label: runs.length === 1 ? label : `${run.name}: ${label}`,
        measure: runs.length === 1 ? undefined : label,
        tone: runs.length === 1 ? (ema ? 0 : k) : r,
        dash: runs.length === 1 ? (ema ? 1 : 0) : k,
        points: known.map((m) => [m.step, Number(m[key])]),
        band: band?.length && runs.length === 1 ? band : undefined,
      };
    }),
  );
}

/** What the run itself warns of: each alarm once, with its latest sentence and how often it rang. */
function alarms(run) {
  const rung = new Map();
  for (const m of run.metrics)
    for (const key of Object.keys(m).filter((k) => k.startsWith(ALARM))) rung.set(key, { step: m.step, why: m[key], times: (rung.get(key)?.times ?? 0) + 1 });
  if (!rung.size) return null;
  const latest = [...rung.values()].sort((a, b) => b.step - a.step);
  return el("section", { class: "alarms card" },
    el("h2", {}, "Alarms"),
    el("ol", { class: "switches" }, latest.map(({ step, why, times }) =>
      el("li", {}, el("a", { href: link(run.name, "games", { step }) }, `step ${step}`), " ", spoken(why), times > 1 ? el("span", { class: "note" }, ` (${times} steps)`) : null))));
}

function timeline(run) {
  if (!stagesOf(run.metrics).length) return null;
  const reasons = run.metrics.filter((m) => m[SWITCH]).map((m) =>
    el("li", {}, el("a", { href: link(run.name, "games", { step: m.step }) }, `step ${m.step}`), " ", spoken(m[SWITCH])));
  return el("section", { class: "timeline card" },
    el("h2", {}, "Stages"),
    strip(run),
    reasons.length ? el("ol", { class: "switches" }, reasons) : el("p", { class: "note" }, "no switch yet"));
}

function timelines(runs) {
  const rows = runs.filter((run) => stagesOf(run.metrics).length).map((run) => [el("p", {}, swatch({ tone: runs.indexOf(run) }), spoken(run.name)), strip(run)]);
  return rows.length ? el("section", { class: "timeline card" }, el("h2", {}, "Stages"), rows) : null;
}

/** Stages in proportion to their steps; why each began is told when it is pointed at. */
function strip(run) {
  return el("div", { class: "strip" }, stagesOf(run.metrics).map(({ from, to, stage }) => {
    const why = run.metrics.find((m) => m.step === from - 1)?.[SWITCH];
    const title = `${stage} stage, steps ${from} to ${to}${why ? `\n${why}` : ""}`;
    const block = el("a", { class: STAGE_NAMES.includes(stage) ? stage : "other", title, href: link(run.name, "games", { step: from }) }, `${stage} ${from}–${to}`);
    block.style.flex = `${to + 1 - from} 1 0`;
    return block;
  }));
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

/** Every leaf of a tree of settings. Example: `[["credit.beta", "0.1"], …]` */
function leaves(tree, prefix = "") {
  return Object.entries(tree ?? {}).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
      ? leaves(value, `${prefix}${key}.`)
      : [[prefix + key, JSON.stringify(value)]]);
}

function settingsTable(run) {
  const { config, ...rest } = run.info;
  const rows = leaves({ ...rest, config }).map(([key, value]) => el("tr", {}, el("th", {}, spoken(key)), el("td", {}, spoken(value))));
  return el("details", { class: "settings card" }, el("summary", {}, "Settings and versions"), el("div", { class: "scroll" }, el("table", {}, rows)));
}

/** What tells the recipes of several runs apart. */
function differences(runs) {
  const settings = runs.map((run) => new Map(leaves(run.info.config)));
  const keys = [...new Set(settings.flatMap((s) => [...s.keys()]))].filter((key) => new Set(settings.map((s) => s.get(key))).size > 1);
  return el("section", { class: "card differences" },
    el("h2", {}, "Settings that differ"),
    keys.length
      ? el("div", { class: "scroll" }, el("table", {},
        el("thead", {}, el("tr", {}, el("th", {}), runs.map((run, k) => el("th", {}, swatch({ tone: k }), spoken(run.name))))),
        el("tbody", {}, keys.map((key) => el("tr", {}, el("th", {}, spoken(key)), settings.map((s) => el("td", {}, spoken(s.get(key) ?? "–"))))))))
      : el("p", { class: "legend" }, "none: ", runs.map((run, k) => el("span", {}, swatch({ tone: k }), spoken(run.name)))));
}
