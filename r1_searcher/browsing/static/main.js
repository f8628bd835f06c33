// Which view is shown, keys, and what is known of the folders.

import { ask, wasDropped } from "./api.js";
import { compare } from "./compare.js";
import { curves } from "./curves.js";
import { h, put } from "./dom.js";
import { save } from "./exporting.js";
import { plural } from "./format.js";
import { list } from "./list.js";
import { question } from "./question.js";
import { address, go, listen, onChange, state } from "./state.js";
import { trajectory } from "./trajectory.js";

const VIEWS = { trajectory, compare, question, curves };
const KEYS = [
  ["j  k", "next, previous"],
  ["↑  ↓", "the same in the table"],
  ["Enter", "open the selected trajectory"],
  ["←  →", "previous, next page or trajectory"],
  [",  .", "previous, next token of the policy"],
  ["/", "search"],
  ["c", "curves"],
  ["e", "export this view"],
  ["Esc", "back"],
  ["?", "these keys"],
];
const main = document.querySelector("main");
const text = document.querySelector("#text");
let known = { rows: 0, bounds: {}, added: [], indexing: { busy: true } };
let view = null;

function show() {
  view?.end?.();
  const chosen = state();
  const name = chosen.get("view") ?? "";
  // An answer that arrives after its view was left changes nothing that is seen.
  const place = h("div", { class: "view" });
  put(main, place);
  view = (VIEWS[name] ?? list)(place, known);
  document.title = view.title;
  if (document.activeElement !== text) text.value = chosen.get("text") ?? "";
  const tabs = [
    ["", "Trajectories", "/"],
    ["curves", "Curves", "/?view=curves"],
  ];
  put(
    document.querySelector("#views"),
    tabs.map(([tab, says, url]) => h("a", { href: url, "aria-current": (name === "curves" ? "curves" : "") === tab ? "page" : null }, says)),
  );
}

async function look() {
  try {
    const before = known;
    known = await ask("state");
    notes();
    const grew = known.version !== before.version;
    if (before.version === undefined || (grew && before.rows === 0)) show();
    else if (grew && document.activeElement?.tagName !== "INPUT") view?.changed?.();
    Object.assign(before, known); // views that are shown go on with what is now known
  } catch (error) {
    if (!wasDropped(error)) put(document.querySelector("#notes"), h("p", { class: "error" }, `The server does not answer: ${error.message}`));
  }
  setTimeout(look, known.indexing.busy ? 1000 : 4000);
}

function notes() {
  const { indexing, problems, num_problems: number } = known;
  put(
    document.querySelector("#notes"),
    indexing.busy && h("p", {}, "Reading files ", h("progress", { max: Math.max(1, indexing.todo), value: indexing.done, "aria-label": "files read" }), ` ${indexing.done} of ${indexing.todo}; what is read is shown.`),
    number > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `${plural(number, "file is", "files are")} not shown`),
        h("ul", {}, problems.map((one) => h("li", {}, h("code", {}, one.file), `: ${one.says}`))),
      ),
  );
}

function help() {
  const dialog = document.querySelector("#keys");
  put(
    dialog,
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", {}, KEYS.map(([key, says]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, says)))),
    h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  dialog.showModal();
}

function theme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const next = dark === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
}

const ALWAYS = { "/": () => (text.focus(), text.select()), "?": help, c: () => go("/?view=curves"), e: save };

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog[open]");
  if (event.key === "Escape" && typing && !event.target.closest("dialog[open]")) return event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return undefined;
  const act = view?.keys[event.key] ?? ALWAYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
  return undefined;
});

document.querySelector("#search").addEventListener("submit", (event) => {
  event.preventDefault();
  go(address({ view: null, id: null, at: null, offset: null, question: null, text: text.value.trim() || null }));
  text.blur();
});
document.querySelector("#help").addEventListener("click", help);
document.querySelector("#theme").addEventListener("click", theme);
document.querySelector("#export").addEventListener("click", save);

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
onChange(show);
listen();
look();
