"use strict";
// Which page is shown is in the address, so that every game and every list has a link of its own:
//   #/                          runs          #/RUN?with=RUN,RUN                      at a glance, compared
//   #/RUN/games?step=3&…        list          #/RUN/game/STEP/NUMBER?step=3&…         a game, within its list
//   #table                      a seat at the table, where there is one

let leave = () => {};
const rowsOf = new Map();

/** An address within the page. Example: `link("nano", "games", {step: 3}) === "#/nano/games?step=3"` */
function link(run, rest = "", query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== undefined)).toString();
  return `#/${encodeURIComponent(run)}${rest ? `/${rest}` : ""}${asked ? `?${asked}` : ""}`;
}

function say(text) {
  document.getElementById("status").replaceChildren(text);
}

function show(node, ...trail) {
  document.getElementById("trail").replaceChildren(...trail.flatMap((part, k) => (k ? [el("span", { class: "slash" }, " / "), part] : [part])));
  document.getElementById("main").replaceChildren(node);
}

const home = () => el("a", { href: "#/" }, "Vision-Zero");

const start = (run) => [home(), source.seated ? el("a", { href: TABLE }, "the table") : null, el("a", { href: link(run) }, spoken(run))].filter(Boolean);

function parse() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { run: parts[0], page: parts[1], step: Number(parts[2]), number: Number(parts[3]), query: Object.fromEntries(new URLSearchParams(query)) };
}

async function route() {
  leave();
  leave = () => {};
  say("");
  const turn = (route.turn = (route.turn ?? 0) + 1);
  const current = () => turn === route.turn;
  const failed = (error) => current() && say(error.message);
  try {
    const asked = parse();
    if (source.seated && [TABLE, "", "#/"].includes(location.hash)) await tablePage(current);
    else if (asked.run === undefined) await runsPage(current, failed);
    else if (asked.page === "games") await listPage(asked, current);
    else if (asked.page === "game") await onePage(asked, current);
    else await glancePage(asked, current, failed);
  } catch (error) {
    failed(error);
  }
}

async function runsPage(current, failed) {
  const chosen = new Set();
  let last = "";
  const draw = (runs) => {
    if (!current() || JSON.stringify(runs) === last) return;
    last = JSON.stringify(runs);
    if (runs.length === 1) location.replace(link(runs[0].name));
    else show(runsTable(runs, chosen), home());
  };
  const watch = source.watch("runs", draw, failed);
  leave = watch.stop;
  await watch.first;
}

function runsTable(runs, chosen) {
  const compare = el("button", { type: "button", disabled: chosen.size < 2, click: () => {
    const [first, ...others] = chosen;
    location.hash = link(first, "", { with: others.map(encodeURIComponent).join(",") });
  } }, "compare the chosen ones");
  const row = (run) => el("tr", { click: (event) => event.target.closest("a, label, input") || (location.hash = link(run.name)) },
    el("td", {}, el("label", {}, el("input", { type: "checkbox", checked: chosen.has(run.name), "aria-label": `choose ${run.name}`, change: (event) => {
      event.target.checked ? chosen.add(run.name) : chosen.delete(run.name);
      compare.disabled = chosen.size < 2;
    } }))),
    el("td", {}, el("a", { href: link(run.name) }, spoken(run.name))),
    el("td", {}, spoken(run.started?.replace("T", " ").replace(/[+]00:00$/, "") ?? "")),
    el("td", { class: "number" }, far(run)),
    el("td", {}, spoken(run.last.stage ?? "–")),
    el("td", { class: "number" }, percent(run.last["win/civilian"])),
    el("td", { class: "number" }, number(run.last["update/kl"])));
  const head = ["", "run", "started (UTC)", "steps", "stage", "civilians win", "KL"];
  return el("section", {}, el("div", { class: "tools" }, compare),
    el("div", { class: "card scroll" }, el("table", { class: "runs" }, el("thead", {}, el("tr", {}, head.map((h) => el("th", {}, h)))), el("tbody", {}, runs.map(row)))));
}

/** How far a run is; runs that only play have no steps. */
const far = (run) => (run.steps || !run.games ? `${run.steps} of ${run.planned ?? "?"} steps` : `${run.games} games`);

async function glancePage({ run, query }, current, failed) {
  const names = [run, ...(query.with ?? "").split(",").filter(Boolean).map(decodeURIComponent)];
  const known = new Map();
  const draw = () => {
    if (!current() || known.size < names.length) return;
    const runs = names.map((name) => known.get(name));
    const pick = (step) => (location.hash = link(run, "games", { step }));
    const progress = el("p", { class: "progress" }, runs.map((r) => [el("span", {}, spoken(r.name), `: ${far(r)}`), bar(r)]),
      runs.map((r) => (r.with_games.length ? el("a", { class: "button main", href: link(r.name, "games", { step: r.steps ? r.with_games.at(-1) : undefined }) }, names.length === 1 ? "games" : spoken(`games of ${r.name}`)) : null)));
    const place = scrollY;
    const unfolded = document.querySelector("details.settings")?.open;
    show(el("div", {}, progress, glance(runs, pick)), home(), spoken(names.join(", ")));
    if (unfolded) document.querySelector("details.settings").open = true;
    scrollTo(0, place);
  };
  const watches = names.map((name) => source.watch(`${source.run(name)}/overview`, (value) => (known.set(name, value), draw()), failed));
  leave = () => watches.forEach((w) => w.stop());
  await Promise.all(watches.map((w) => w.first));
}

function bar(run) {
  if (!run.steps || !run.planned) return null;
  const filled = el("i");
  filled.style.width = `${Math.min(100, (100 * run.steps) / run.planned)}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, filled);
}

function remembered(run) {
  const last = run.with_games.at(-1);
  const known = rowsOf.get(run.name);
  // a run that was resumed plays steps again: what was remembered of them is another game now
  if (!known || known.last > last) rowsOf.set(run.name, { last, rows: new Rows(run.name) });
  rowsOf.get(run.name).last = last;
  return rowsOf.get(run.name).rows;
}

async function listPage({ run, query }, current) {
  const overview = await source.get(`${source.run(run)}/overview`);
  if (!current()) return;
  const page = gamesPage(overview, query, remembered(overview));
  leave = page.stop;
  show(page.node, ...start(run), "games");
}

async function onePage({ run, step, number, query }, current) {
  const at = source.run(run);
  const [overview, game] = await Promise.all([source.get(`${at}/overview`), source.get(`${at}/games/${step}/${number}`)]);
  if (!current()) return;
  const page = gamePage(overview, game, query, remembered(overview));
  leave = page.stop;
  show(page.node, ...start(run), el("a", { href: link(run, "games", query) }, "games"),
    `step ${step}, game ${number} of ${game.of}`);
  scrollTo(0, 0);
}

addEventListener("hashchange", route);
route();
