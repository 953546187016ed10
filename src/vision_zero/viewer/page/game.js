"use strict";
// One game, turn by turn, with the pictures that the players saw.

const BLINK_MS = 600;

/** `alone`: not one of a list. */
function gamePage(run, game, filters, rows, { alone = false } = {}) {
  const state = { outlined: false, blinking: null, thoughts: false };
  const roles = Object.fromEntries(game.seats.map((s) => [s.index, s.role]));
  const node = el("article", { class: "game" });

  const turnTo = async (direction) => {
    const next = await neighbour(rows, run.with_games, filters, game, direction);
    if (next) location.hash = link(run.name, `game/${next.step}/${next.number}`, filters);
    else say(direction > 0 ? "this is the last game of the list" : "this is the first game of the list");
  };
  const outline = () => {
    state.outlined = !state.outlined;
    node.classList.toggle("outlined", state.outlined);
    press("outline", state.outlined);
  };
  const blink = () => {
    clearInterval(state.blinking);
    state.blinking = state.blinking === null ? setInterval(() => node.classList.toggle("swapped"), BLINK_MS) : null;
    if (state.blinking === null) node.classList.remove("swapped");
    press("blink", state.blinking !== null);
  };
  const unfold = () => {
    state.thoughts = !state.thoughts;
    for (const details of node.querySelectorAll("details.thought")) details.open = state.thoughts;
    press("thoughts", state.thoughts);
  };
  const press = (name, on) => node.querySelector(`button[data-name="${name}"]`)?.setAttribute("aria-pressed", String(on));
  const button = (name, label, act, usable = true) =>
    el("button", { type: "button", "data-name": name, "aria-pressed": "false", disabled: !usable, click: act }, label);

  const twins = game.twins.length === 2;
  node.append(
    el("div", { class: "tools" },
      alone ? null : el("button", { type: "button", "data-name": "previous", click: () => turnTo(-1) }, "← previous"),
      alone ? null : el("button", { type: "button", "data-name": "next", click: () => turnTo(1) }, "next →"),
      button("blink", ["blink twins", el("kbd", {}, "b")], blink, twins),
      button("outline", ["outline differences", el("kbd", {}, "o")], outline, game.regions.length > 0),
      button("thoughts", ["all thoughts", el("kbd", {}, "t")], unfold, game.turns.some((t) => t.thought)),
      alone ? null : el("a", { href: link(run.name, "games", filters) }, "back to the list")),
    verdict(game),
    seats(run, game),
    ...turns(game, roles),
    facts(game));

  const keys = { ...(alone ? {} : { ArrowRight: () => turnTo(1), ArrowLeft: () => turnTo(-1) }), b: () => twins && blink(), o: () => game.regions.length && outline(), t: unfold };
  const key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (Object.hasOwn(keys, event.key)) {
      event.preventDefault();
      keys[event.key]();
    }
  };
  document.addEventListener("keydown", key);
  return { node, stop: () => (clearInterval(state.blinking), document.removeEventListener("keydown", key)) };
}

function verdict(game) {
  const { outcome } = game;
  const votes = outcome.votes_received.map((v, k) => (Number(v) ? `${number(v)} against ${playerName(k)}` : null)).filter(Boolean);
  return el("p", { class: `verdict ${game.ending}` },
    el("b", {}, outcome.accused === null ? ENDINGS.tie : `${playerName(outcome.accused)} is accused: ${ENDINGS[game.ending]}`),
    el("span", { class: "note" }, `${outcome.voters} voters: ${[...votes, `N/A ${number(outcome.abstained)}`, `invalid ${number(outcome.invalid)}`].join(", ")}`));
}

function seats(run, game) {
  return el("section", { class: "seats" }, game.seats.map((seat) =>
    el("figure", { class: `seat ${seat.role}` },
      sight(run, game, seat.picture),
      el("figcaption", {},
        el("b", {}, playerName(seat.index)), " ", el("span", { class: "role" }, seat.role), " ",
        seat.version === "human" ? el("span", { class: "accused" }, "a person") : null,
        seat.index === game.outcome.accused ? el("span", { class: "accused" }, "accused") : null,
        spoken([seat.player, seat.version].filter((x) => x !== null && x !== undefined).join(" "), { class: "note" }),
        seat.reward === null ? null : el("span", { class: "figure" }, "reward ", signed(seat.reward))))));
}

/** A seat's picture; over it its twin, unseen until it blinks, and the boxes where they differ. */
function sight(run, game, sha) {
  const twin = game.twins.find((other) => other !== sha);
  return el("div", { class: "sight" },
    el("img", { src: source.picture(run.name, sha), alt: "what this player saw" }),
    twin ? el("img", { class: "twin", src: source.picture(run.name, twin), alt: "what the other side saw" }) : null,
    svg("svg", { class: "regions", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" },
      game.regions.map(([x, y, width, height]) => svg("rect", { x, y, width, height }))));
}

/** Rounds and votes. Votes of voters that were asked several times are counted, each answer folded under its voter. */
function turns(game, roles) {
  const sections = [];
  let last = null;
  for (const turn of game.turns) {
    if (!last || last.stage !== turn.stage || last.round !== turn.round) {
      sections.push({ title: turn.stage === "clue" ? `Round ${turn.round}` : "Votes", turns: [] });
    }
    sections.at(-1).turns.push(turn);
    last = turn;
  }
  return sections.map(({ title, turns }) => {
    const rows = turns.some((t) => t.draw) ? ballots(turns, roles) : turns.map((t) => turnRow(t, roles));
    return el("section", { class: "round" }, el("h2", {}, title), rows);
  });
}

function ballots(turns, roles) {
  return [...Map.groupBy(turns, (turn) => turn.seat)].map(([seat, asked]) => {
    const counted = [...Map.groupBy(asked, answer)].map(([said, all]) => `${said}: ${all.length} of ${asked.length}`);
    return el("div", { class: `turn ${roles[seat] ?? "analyst"}` },
      el("div", { class: "who" }, playerName(seat)),
      el("div", { class: "said" },
        el("p", {}, counted.join(", ")),
        el("details", {}, el("summary", { class: "note" }, "each answer"), asked.map((turn) => turnRow(turn, roles)))));
  });
}

function turnRow(turn, roles) {
  const thought = turn.thought && el("details", { class: "thought" }, el("summary", {}, "private thought"), spoken(turn.thought));
  return el("div", { class: `turn ${roles[turn.seat] ?? "analyst"}` },
    el("div", { class: "who" }, playerName(turn.seat)),
    el("div", { class: "said" },
      thought || null,
      el("p", { class: turn.stage }, answer(turn)),
      turn.problem === null ? null : el("p", { class: "problem" }, spoken(turn.problem)),
      el("details", { class: "raw" }, el("summary", {}, "as it was said, and what was asked"),
        el("pre", {}, spoken(turn.text)), el("pre", { class: "asked" }, spoken(turn.shown)))),
    el("div", { class: "figures" },
      turn.advantage === null ? null : el("span", { class: `figure ${turn.advantage < 0 ? "less" : "more"}` }, "advantage ", signed(turn.advantage)),
      el("span", { class: "figure" }, turn.stop === "length" ? "cut off" : "ended", turn.tokens ? ` after ${turn.tokens} tokens` : ""),
      turn.logprob === null ? null : el("span", { class: "figure", title: "of the whole utterance" }, "log-prob ", number(turn.logprob))));
}

/** What was understood: a node for a clue, words for a vote. */
function answer(turn) {
  if (turn.stage === "clue") return turn.clue === null ? el("i", {}, "no clue") : spoken(turn.clue);
  if (turn.vote === null) return "invalid vote";
  return turn.vote === "N/A" ? "abstains (N/A)" : `votes for ${playerName(turn.vote)}`;
}

function facts(game) {
  const words = (values) => Object.entries(values).map(([k, v]) => `${k}: ${typeof v === "string" ? v : JSON.stringify(v)}`).join(", ");
  return el("section", { class: "facts" },
    el("h2", {}, "What differs"),
    game.changes?.length
      ? el("ul", {}, game.changes.map((c) => el("li", {}, spoken(`${c.what}: ${words(c.before)} → ${words(c.after)}`))))
      : el("p", { class: "note" }, "not known"),
    el("p", { class: "note" }, "game ", spoken(game.id), " of ", spoken(game.game), ", pair ", spoken(game.pair), `, seed ${game.seed}`));
}
