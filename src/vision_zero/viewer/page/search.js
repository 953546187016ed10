"use strict";
// Finding games: rows are loaded a step at a time, newest data from disk, and filtered here.

const FILTERS = {
  ending: { any: "any outcome", ...ENDINGS },
  role: { any: "all roles", civilian: "civilians", spy: "spy" },
  only: {
    any: "all games", unreadable: "with something unreadable", cut_off: "with something cut off",
    highest: "highest rewards of their step", lowest: "lowest rewards of their step",
  },
};
const EXTREME = 0.05;

/** Rows of the games of a run, remembered by step. */
class Rows {
  constructor(run) {
    this.run = run;
    this.known = new Map();
  }

  of(step) {
    if (!this.known.has(step)) {
      const rows = source.get(`${source.run(this.run)}/games/${step}`);
      rows.catch(() => this.known.delete(step));
      this.known.set(step, rows);
    }
    return this.known.get(step);
  }
}

/** Reward of a row's chosen role: the highest or the lowest of its seats. */
function rewardOf(row, role, which) {
  const ranges = Object.entries(row.reward).filter(([r]) => role === "any" || r === role).map(([, range]) => range.map(Number));
  return ranges.length ? Math[which](...ranges.flat()) : NaN;
}

/** The rows of one step that filters let through, in the order they were played. */
function matching(rows, { ending = "any", role = "any", only = "any" }) {
  let found = rows.filter((row) => ending === "any" || row.ending === ending);
  if (only === "unreadable")
    found = found.filter((row) => (role === "any" ? Object.values(row.unreadable).some(Boolean) : row.unreadable[role] > 0));
  if (only === "cut_off") found = found.filter((row) => (role === "any" ? Object.values(row.cut_off).some(Boolean) : row.cut_off[role] > 0));
  if (only === "highest" || only === "lowest") {
    const which = only === "highest" ? "max" : "min";
    const sign = only === "highest" ? -1 : 1;
    const all = rows.map((row) => rewardOf(row, role, which)).filter(Number.isFinite).sort((a, b) => sign * (a - b));
    const edge = all[Math.max(0, Math.ceil(EXTREME * all.length) - 1)];
    found = found.filter((row) => sign * (rewardOf(row, role, which) - edge) <= 0);
  }
  return found;
}

/** Steps that filters ask for, of those that have games. */
function stepsFor(withGames, { step = "all" }) {
  return step === "all" ? withGames : withGames.filter((s) => s === Number(step));
}

/** The next game that filters let through, before or after a place in the list; null at its end. */
async function neighbour(rows, withGames, filters, place, direction) {
  const steps = stepsFor(withGames, filters);
  const order = direction > 0 ? steps.filter((s) => s >= place.step) : steps.filter((s) => s <= place.step).reverse();
  for (const step of order) {
    const found = matching(await rows.of(step), filters);
    const beyond = found.filter((row) => step !== place.step || direction * (row.number - place.number) > 0);
    if (beyond.length) return beyond.at(direction > 0 ? 0 : -1);
  }
  return null;
}
