// What the page shows. Only here are elements made; every text that comes from data is set as text.
import { best } from "./networks.js";
import { picture } from "./pad.js";

export const ROLES = ["compact", "float"];
const TITLES = { compact: "Compact", float: "Float" };
const MOST_ROWS = 12;
const REST_MS = 400;
const numbers = new Intl.NumberFormat("en");

export const $ = (id) => document.getElementById(id);
export const whole = (value) => numbers.format(value);
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const milliseconds = (ms) => `${ms < 10 ? ms.toPrecision(2) : whole(Math.round(ms))} ms`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function row(head, ...cells) {
  return element("tr", {}, element("th", { scope: "row" }, head), ...cells.map((cell) => element("td", {}, cell)));
}

/** `place`: "state" while loading, "problem" for what stays wrong, "notice" for what the visitor did; no text hides it. */
export function say(place, text) {
  $(place).textContent = text;
  $(place).hidden = !text;
}

/** `shares` by role, of the networks that answered; `label`: what the data call this picture, where they do. */
export function answers(shares, labels, label) {
  const told = Object.fromEntries(Object.entries(shares).map(([role, values]) => [role, best(values)]));
  for (const role of ROLES) {
    $(`${role}-word`).textContent = role in told ? labels[told[role]] : "–";
    $(`${role}-share`).textContent = role in told ? percent(shares[role][told[role]]) : "";
  }
  const both = ROLES.every((role) => role in told);
  $("together").className = `together ${both ? (told.compact === told.float ? "same" : "different") : ""}`;
  const words = both ? [told.compact === told.float ? "Both answer the same." : "They differ."] : [];
  if (label !== undefined) words.push(`The data call it: ${labels[label]}.`);
  $("together").textContent = words.join(" ");
  const who = ROLES.filter((role) => role in told);
  speak([...who.map((role) => `${TITLES[role]}: ${labels[told[role]]}, ${percent(shares[role][told[role]])}.`), ...words]);
  table(shares, labels);
}

let spoken;

/** To a screen reader, once a drawing rests. */
function speak(sentences) {
  clearTimeout(spoken);
  spoken = setTimeout(() => { $("spoken").textContent = sentences.join(" "); }, REST_MS);
}

function table(shares, labels) {
  const most = (i) => Math.max(...Object.values(shares).map((values) => values[i]));
  let rows = labels.map((_, i) => i);
  if (labels.length > MOST_ROWS) rows = rows.sort((a, b) => most(b) - most(a)).slice(0, MOST_ROWS);
  $("shares-note").hidden = labels.length <= MOST_ROWS;
  $("shares-note").textContent = `The ${MOST_ROWS} largest of ${whole(labels.length)} classes.`;
  $("shares").replaceChildren(...rows.map((i) => row(labels[i], ...ROLES.map((role) => bar(role, shares[role]?.[i])))));
}

function bar(role, share) {
  if (share === undefined) return "–";
  const filled = element("span", { className: `bar ${role}` });
  filled.style.width = percent(share, 2).replace(" ", "");
  return element("span", { className: "cell" }, element("span", { className: "track" }, filled), percent(share));
}

export function seen(raw, input) {
  const [, height, width] = input.shape;
  $("seen-caption").textContent = `${width} × ${height} pixels of ${input.low} to ${input.high}`;
  picture($("seen"), raw ?? new Array(width * height * input.shape[0]).fill(input.background), input);
}

/** Buttons of pictures: `choose` is called with the index of what was pressed. `told`: lines below the picture of an index. */
export function thumbs(list, indices, { sample, input, labels }, choose, told = () => []) {
  list.replaceChildren(...indices.map((i) => {
    const canvas = element("canvas");
    picture(canvas, sample.pictures[i], input);
    const name = labels[sample.labels[i]];
    const button = element("button", { type: "button", title: name, onclick: () => choose(i) }, canvas);
    button.dataset.index = i;
    button.setAttribute("aria-label", `Picture ${i + 1}, ${name}`);
    button.setAttribute("aria-pressed", "false");
    return element("li", {}, button, ...told(i).map((line) => element("span", {}, line)));
  }));
}

export function pressed(index) {
  for (const button of document.querySelectorAll(".thumbs button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
  }
}

export function visit(outcomes) {
  const all = [...outcomes.values()];
  const alike = all.filter(Boolean).length;
  $("visit").textContent = all.length ? `Same answer for ${alike} of ${all.length} pictures in this visit.` : "";
}

/** Rows of [what, value by role, form]; a value that is missing is shown as a dash, the ratio only where both are there. */
export function costs(rows) {
  $("costs").replaceChildren(...rows.map(([what, values, form]) => {
    const cells = ROLES.map((role) => (values[role] === undefined ? "–" : form(values[role])));
    const both = ROLES.every((role) => values[role] > 0);
    return row(what, ...cells, both ? `${Number((values.compact / values.float).toPrecision(2))}×` : "–");
  }));
}

/** `right` by role: for each picture whether the answer is the data's; `alike`: whether both gave the same; `ms` by role. */
export function outcome(right, alike, ms) {
  const count = (values) => values.filter(Boolean).length;
  const n = alike.length;
  const head = element("tr", {}, element("td"), ...ROLES.map((role) => element("th", { scope: "col" }, TITLES[role])));
  const share = (role) => `${whole(count(right[role]))} of ${whole(n)} = ${percent(count(right[role]) / n, 2)}`;
  const only = (one, other) => whole(right[one].filter((fits, i) => fits && !right[other][i]).length);
  const body = element(
    "tbody", {},
    row("Right answers", ...ROLES.map(share)),
    row("Right where the other is wrong", only("compact", "float"), only("float", "compact")),
    row("One answer, median", ...ROLES.map((role) => milliseconds(ms[role]))),
  );
  const told = `Both give the same answer for ${whole(count(alike))} of ${whole(n)} pictures.`;
  $("outcome").replaceChildren(element("table", {}, element("thead", {}, head), body), element("p", { className: "note" }, told));
}
