"use strict";
// A seat at the table: who plays, what the person may know, what it says, and in the end everything.

const LOOK_AGAIN_MS = 400;
const TABLE = "#table";
const ROLES = { any: "by lot", civilian: "civilian", spy: "spy" };
const HELLO = {
  civilian: "You see what the other civilians see. One player, the spy, sees something a little different. Say what is true without telling too much, and find out who does not fit.",
  spy: "Your picture differs a little from that of all the others. Listen, speak as if you saw theirs, and do not be found.",
};

const table = {
  wish: { role: "any", civilians: "anybody", spies: "anybody" },

  async ask(what, value) {
    const answer = await fetch(what ? `table/${what}` : "table.json", what && {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value),
    });
    if (answer.status === 429) throw new Error("that was too fast: wait a second");
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    return told;
  },
};

/** Follows the table until somebody goes elsewhere. What is typed stays when something new is told. */
async function tablePage(current) {
  let shown = null;
  const draw = async (state) => {
    const part = state.game && [state.game.step, state.game.ended, state.game.ask?.number].join();
    const whole = shown === null || part !== shown.part || !state.game;
    if (shown && state.version === shown.version) return;
    shown = { version: state.version, part };
    const ended = state.game?.ended && !state.game.problem && !state.game.left;
    const replay = whole && ended ? await replayed(state) : null;
    if (!current()) return;
    if (!whole) document.querySelector(".told").replaceWith(told(state.game));
    else {
      show(el("div", { class: "table" }, ended ? replay : state.game && !state.game.ended ? seatOf(state, act) : lobby(state, act)),
        home(), "the table", el("a", { href: link(state.run, "games") }, "games played"));
      document.querySelector(".answer input, .answer textarea")?.focus();
    }
    document.querySelector(".told")?.lastElementChild?.scrollIntoView({ block: "nearest" });
  };
  const act = async (what, value) => {
    try {
      say("");
      await draw(await table.ask(what, value));
    } catch (error) {
      say(error.message);
    }
  };
  const replayed = async (state) => {
    const [run, game] = await Promise.all([source.get(`${source.run(state.run)}/overview`), source.get(`${source.run(state.run)}/games/${state.game.step}/0`)]);
    const page = gamePage(run, game, {}, new Rows(state.run), { alone: true });
    leave = page.stop;
    return [reveal(state, game, act), page.node, lobby(state, act, "Another game")];
  };
  const look = async () => {
    if (!current()) return;
    try {
      await draw(await table.ask());
    } catch (error) {
      if (current()) say(error.message);
    }
    if (current()) setTimeout(look, LOOK_AGAIN_MS);
  };
  await look();
}

function lobby(state, act, title = "Take a seat") {
  const { rules, invited, game } = state;
  const wish = table.wish;
  const players = Object.fromEntries([...(invited.length > 1 ? [["anybody", "anybody of them"]] : []), ...invited.map((name) => [name, name])]);
  for (const side of ["civilians", "spies"]) if (!(wish[side] in players)) wish[side] = Object.keys(players)[0];
  const roles = rules.spies ? ROLES : { any: ROLES.any };
  const role = el("fieldset", { class: "roles" }, el("legend", {}, "You are"), Object.entries(roles).map(([value, label]) =>
    el("label", { class: value }, el("input", { type: "radio", name: "role", value, checked: wish.role === value, change: () => (wish.role = value) }), el("span", {}, label))));
  const who = (side, label) => el("label", { class: "pick" }, label,
    el("select", { name: side, change: (event) => (wish[side] = event.target.value) },
      Object.entries(players).map(([value, name]) => el("option", { value, selected: wish[side] === value }, name))));
  const start = (event) => {
    event.preventDefault();
    act("begin", { role: wish.role === "any" ? null : wish.role, civilians: wish.civilians, spies: wish.spies });
  };
  return el("section", { class: "lobby" },
    el("form", { class: "card", submit: start },
      el("h1", {}, title),
      game?.ended && game.problem ? el("p", { class: "problem" }, spoken(game.problem)) : null,
      game?.left ? el("p", { class: "note" }, "You left the table. That game is not kept.") : null,
      el("p", { class: "note" }, rules.spies
        ? `${rules.seats} players, ${rules.spies === 1 ? "one of them the spy" : `${rules.spies} of them spies`}. ${rules.rounds} round${rules.rounds > 1 ? "s" : ""} of clues, then a vote. Who sits where is told at the end.`
        : `${rules.seats} players: the first describes a picture, the others find it among two.`),
      role,
      el("div", { class: "picks" }, who("civilians", rules.spies ? "other civilians" : "other players"), rules.spies ? who("spies", "the spy, if not you") : null),
      el("button", { class: "main", "data-name": "begin" }, "deal")),
    scoreboard(state));
}

function scoreboard({ score, run }) {
  if (!score.games.length) return null;
  const { civilian, spy, games } = score;
  const tile = (value, of, label, kind) => el("div", { class: `tile ${kind}` }, el("b", {}, String(value), el("small", {}, ` of ${of}`)), el("span", {}, label));
  return el("aside", { class: "card score" },
    el("h2", {}, "Your score"),
    el("div", { class: "tiles" },
      tile(civilian.won + spy.won, games.length, "games won", "all"),
      tile(civilian.won, civilian.played, "as civilian", "civilian"),
      tile(spy.won, spy.played, "as spy", "spy"),
      tile(civilian.named, civilian.played, "times you named the spy", "all")),
    el("ol", { class: "history", reversed: true }, games.toReversed().slice(0, 12).map((g) =>
      el("li", { class: g.won ? "won" : "lost" },
        el("a", { href: link(run, `game/${g.step}/0`) }, `game ${g.step + 1}`), ` ${g.role}, ${ENDINGS[g.ending]}: ${g.won ? "won" : "lost"}`))));
}

function seatOf(state, act) {
  const { game, rules } = state;
  return el("section", { class: "seated" },
    el("figure", { class: `card mine ${game.role}` },
      el("div", { class: "sights" }, game.pictures.map((sha, k) => el("img", { src: `table/pictures/${sha}`, alt: game.pictures.length > 1 ? `picture ${k + 1}` : "your picture" }))),
      el("figcaption", {}, el("b", {}, playerName(game.seat)), " you are ", el("strong", { class: "role" }, game.role === "spy" ? "the spy" : "a civilian")),
      rules.spies ? el("p", { class: "note" }, HELLO[game.role]) : null),
    el("div", { class: "talk" }, told(game), answerForm(state, act),
      el("button", { type: "button", class: "quiet", "data-name": "leave", click: () => act("leave", {}) }, "leave the table")));
}

/** What every player has heard, and who is speaking. */
function told(game) {
  const lines = [];
  let round = 0;
  for (const clue of game.clues) {
    if (clue.round !== round) lines.push(el("h2", {}, `Round ${(round = clue.round)}`));
    lines.push(el("div", { class: `bubble seat${clue.seat % 8}${clue.seat === game.seat ? " me" : ""}` },
      el("span", { class: "who" }, clue.seat === game.seat ? "you" : playerName(clue.seat)),
      clue.text ? spoken(clue.text) : el("i", {}, "no clue")));
  }
  if (!game.ask)
    lines.push(el("p", { class: "waiting" }, game.left ? "leaving" : game.stage === "decision" ? "votes are being cast" : game.speaking === null || game.speaking === game.seat ? "one moment" : `${playerName(game.speaking)} is speaking`, el("span", { class: "dots", "aria-hidden": "true" })));
  return el("div", { class: "told", role: "log" }, lines);
}

function answerForm(state, act) {
  const { game, rules } = state;
  if (!game.ask) return null;
  const send = (text) => act("say", { ask: game.ask.number, text });
  if (game.ask.stage === "clue") {
    const count = el("span", { class: "note number" }, String(rules.most_characters));
    const line = el("input", { name: "clue", autocomplete: "off", maxlength: rules.most_characters, required: true, placeholder: rules.compact ? "a small red cube" : "one sentence about your picture", "aria-label": "your clue",
      input: () => (count.textContent = String(rules.most_characters - line.value.length)) });
    return el("form", { class: "answer card", submit: (event) => (event.preventDefault(), send(line.value)) },
      el("label", {}, `Your clue, round ${game.ask.round}`), el("div", { class: "line" }, line, count, el("button", { class: "main", "data-name": "say" }, "say it")),
      rules.compact ? el("p", { class: "note" }, "The tiny model knows only words such as: a large blue metal cylinder") : null);
  }
  const several = game.pictures.length > 1;
  const others = Array.from({ length: game.ask.choices }, (_, k) => k).filter((k) => several || k !== game.seat);
  return el("div", { class: "answer card vote" },
    el("label", {}, several ? "Which picture was described?" : "Who is the spy?"),
    el("div", { class: "line" },
      others.map((k) => el("button", { type: "button", class: `main ${several ? "" : `seat${k % 8}`}`, "data-name": `vote${k + 1}`, click: () => send(String(k + 1)) }, several ? `picture ${k + 1}` : playerName(k))),
      el("button", { type: "button", "data-name": "abstain", click: () => send("n/a") }, "abstain")));
}

function reveal(state, game, act) {
  const { seat, role } = state.game;
  const won = state.score.games.find((g) => g.step === state.game.step).won;
  const spies = game.seats.filter((s) => s.role === "spy").map((s) => playerName(s.index));
  return el("header", { class: `reveal ${won ? "won" : "lost"}` },
    el("h1", {}, won ? "You won" : "You lost"),
    el("p", {}, spies.length ? (role === "spy" ? `You were the spy (${playerName(seat)}), and ${won ? "got away" : "were found"}.` : `The spy was ${spies.join(" and ")}${won ? ", and is caught" : ", and got away"}.`) : ENDINGS[game.ending]),
    el("p", { class: "note" }, `${state.score.games.filter((g) => g.won).length} of ${state.score.games.length} games won`),
    el("button", { type: "button", class: "main", "data-name": "again", click: () => act("begin", { role: table.wish.role === "any" ? null : table.wish.role, civilians: table.wish.civilians, spies: table.wish.spies }) }, "play again"));
}
