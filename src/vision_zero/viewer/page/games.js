"use strict";
// The list of games. It grows as it is scrolled; only what it shows is loaded.

const PAGE = 50;
const AHEAD = 4;

function gamesPage(run, filters, rows) {
  const body = el("tbody");
  const end = el("p", { class: "end", role: "status" });
  const controls = el("form", { class: "filters", submit: (event) => event.preventDefault() },
    choice("step", { all: "all steps", ...Object.fromEntries(run.with_games.toReversed().map((s) => [` ${s}`, `step ${s}`])) }, filters.step === undefined ? "all" : ` ${filters.step}`),
    Object.entries(FILTERS).map(([name, options]) => choice(name, options, filters[name] ?? "any")));
  controls.addEventListener("change", () => {
    const chosen = Object.fromEntries([...new FormData(controls)].map(([k, v]) => [k, v.trim()]).filter(([k, v]) => v !== "any"));
    location.hash = link(run.name, "games", chosen);
  });
  const head = ["", "game", "outcome", "spy", "rewards of civilians", "of the spy", "unreadable", "first clue"];
  const table = el("table", { class: "games" }, el("thead", {}, el("tr", {}, head.map((h) => el("th", {}, h)))), body);
  const more = grow(run, filters, rows, body, end);
  const watcher = new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && more(), { rootMargin: "400px" });
  watcher.observe(end);
  return { node: el("section", {}, controls, el("div", { class: "card scroll" }, table), end), stop: () => watcher.disconnect() };
}

/** What adds the next page of rows; it looks on from where it stopped. */
function grow(run, filters, rows, body, end) {
  const steps = stepsFor(run.with_games, filters);
  let at = 0;
  let rest = [];
  let busy = false;
  return async function more() {
    if (busy) return;
    busy = true;
    const goal = body.childElementCount + PAGE;
    try {
      while (body.childElementCount < goal && (rest.length || at < steps.length)) {
        if (!rest.length) {
          end.textContent = `looking through step ${steps[at]} …`;
          rest = matching(await rows.of(steps[at++]), filters);
          // little was found, so that more steps will be needed: ask for some at once
          if (rest.length < goal - body.childElementCount) for (const step of steps.slice(at, at + AHEAD)) rows.of(step);
        }
        body.append(...rest.splice(0, goal - body.childElementCount).map((row) => gameRow(run, filters, row)));
      }
      const done = !rest.length && at >= steps.length;
      end.textContent = done ? `${body.childElementCount} games` : `${body.childElementCount} games so far; scroll for more`;
    } catch (error) {
      end.textContent = error.message;
      return;
    }
    busy = false;
    const box = end.getBoundingClientRect();
    if (box.top < innerHeight && box.height && (rest.length || at < steps.length)) more();
  };
}

function gameRow(run, filters, row) {
  const to = link(run.name, `game/${row.step}/${row.number}`, filters);
  const range = ([low, high] = []) => (low === undefined ? "–" : low === high ? signed(low) : `${signed(low)} … ${signed(high)}`);
  const unreadable = Object.values(row.unreadable).reduce((a, b) => a + b, 0);
  return el("tr", { click: () => (location.hash = to) },
    el("td", { class: "thumbs" }, row.pictures.slice(0, 2).map((sha) => el("img", { src: source.picture(run.name, sha), alt: "", loading: "lazy" }))),
    el("td", {}, el("a", { href: to }, spoken(row.id))),
    el("td", { class: row.ending }, ENDINGS[row.ending]),
    el("td", {}, row.spies.map((s) => s + 1).join(", ")),
    el("td", { class: "number" }, range(row.reward.civilian)),
    el("td", { class: "number" }, range(row.reward.spy)),
    el("td", { class: "number" }, unreadable ? String(unreadable) : ""),
    el("td", {}, spoken(row.clue)));
}

function choice(name, options, chosen) {
  return el("select", { name, "aria-label": name },
    Object.entries(options).map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
}
