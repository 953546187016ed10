"use strict";
// Everything that is shown is made here. A string only ever becomes a text node: nothing in the page is parsed as
// HTML or Markdown, whoever wrote it.

/** Control, format (bidirectional ones too), lone surrogate and separator characters: shown, not obeyed. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** An element. `attributes` that are functions are event handlers; children are nodes or strings. */
function el(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** What a player (or a file) said, as text: in a direction of its own, unseen characters spelled out. */
function spoken(text, attributes = {}) {
  const node = el("bdi", attributes);
  let plain = "";
  for (const character of String(text)) {
    if (character !== "\n" && UNSEEN.test(character)) {
      node.append(plain, el("span", { class: "unseen", title: "a character that cannot be seen" }, escaped(character)));
      plain = "";
    } else plain += character;
  }
  node.append(plain);
  return node;
}

function escaped(character) {
  return "\\u" + character.codePointAt(0).toString(16).padStart(4, "0");
}

/** A number for people. Example: `number(0.000123) === "1.23e-4"`; words for what is not finite. */
function number(value) {
  const x = Number(value);
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(x)) return String(value);
  if (x !== 0 && Math.abs(x) < 1e-3) return x.toExponential(2);
  return Math.abs(x) >= 1000 ? x.toFixed(0) : String(Number(x.toPrecision(4)));
}

function percent(value) {
  return Number.isFinite(Number(value)) && value !== null ? (100 * Number(value)).toFixed(1) + " %" : "–";
}

function signed(value) {
  const x = Number(value);
  return (x > 0 ? "+" : "") + (Number.isFinite(x) ? x.toFixed(3) : String(value));
}

/** Players are counted from 1 in everything that is read. */
function playerName(seat) {
  return seat === null ? "analyst" : `player ${seat + 1}`;
}

const ENDINGS = { caught: "spy caught", escaped: "spy got away", tie: "nobody accused" };
