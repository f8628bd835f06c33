// Trajectories as a table: used by the list and by a question's page.

import { h } from "./dom.js";
import { figure, label, place, placeOfOne, signed } from "./format.js";
import { address, state } from "./state.js";

const FIRST = [
  ["reward", "figure"],
  ["f1", "figure"],
  ["searches", "figure"],
];
const LAST = [
  ["policy_tokens", "figure"],
  ["advantage", "figure"],
  ["finish_reason", "text"],
];

// Columns that the table has while it is sorted by them or they are bounded.
export const FURTHER = ["retrieval", "format", "answer_reward", "em", "cover_em", "tokens"];

function asked() {
  const bounded = [...state().keys()].filter((name) => /^(min|max)_/.test(name)).map((name) => name.slice(4));
  return FURTHER.filter((name) => name === state().get("sort") || bounded.includes(name)).map((name) => [name, "figure"]);
}

export function table(rows, { sort, added = [], offset = 0, link, caption, ofOne = false }) {
  const figures = [...FIRST, ...asked(), ...added.map((name) => [name, "figure"]), ...LAST].filter(([name]) =>
    rows.some((row) => row[name] !== null && row[name] !== undefined),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { class: "rows" },
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ofOne ? head("iteration", sort, "from", "from") : head("question", sort, "wide"),
          head("answer", sort),
          figures.map(([name, kind]) => head(name, sort, kind)),
          !ofOne && head("iteration", sort, "from", "from"),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row, number) => line(row, figures, offset + number, link, ofOne)),
      ),
    ),
  );
}

function head(name, sort, kind = "text", shown = label(name)) {
  if (!sort) return h("th", { scope: "col", class: kind }, shown);
  const own = sort.name === name;
  const next = own && sort.order === "desc" ? "asc" : "desc";
  const arrow = own ? (sort.order === "desc" ? "\u00a0↓" : "\u00a0↑") : "";
  const changes = own && sort.order === "asc" ? { sort: null, order: null } : { sort: name, order: next };
  return h(
    "th",
    { scope: "col", class: kind, "aria-sort": own ? (sort.order === "desc" ? "descending" : "ascending") : null },
    h("a", { href: address({ ...changes, offset: null }), title: `Sort by ${shown}` }, shown, arrow),
  );
}

function line(row, figures, number, link, ofOne) {
  const right = row.f1 >= 1 ? "right" : row.f1 > 0 ? "partly" : row.f1 === 0 ? "wrong" : "";
  const url = link ? link(row, number) : address({ view: "trajectory", id: row.id, at: number }, state());
  return h(
    "tr",
    { "data-id": row.id },
    h(
      "th",
      { scope: "row", class: ofOne ? "from" : "wide" },
      h("a", { href: url }, ofOne ? placeOfOne(row) : row.question || row.question_id || row.id),
      row.around && h("span", { class: "around" }, "… ", row.around, " …"),
    ),
    h(
      "td",
      { class: "answer" },
      h("span", { class: `mark ${right}`, title: right || "not scored" }, { right: "✓", partly: "~", wrong: "✗" }[right] ?? "·"),
      " ",
      row.answer === null ? h("i", {}, "no answer") : row.answer,
      row.f1 < 1 && row.golds?.length > 0 && h("span", { class: "gold", title: "gold answer" }, row.golds.join(" / ")),
    ),
    figures.map(([name, kind]) => h("td", { class: kind }, cell(name, row))),
    !ofOne && h("td", { class: "from" }, place(row), row.question_kind && h("span", { class: "kind" }, row.question_kind)),
  );
}

function cell(name, row) {
  const value = row[name];
  if (name === "reward" && value !== null) {
    const broken = row.violations?.length ?? 0;
    const title = broken ? `broken: ${row.violations.join(", ")}` : null;
    return [
      h("span", { class: value > 0 ? "good" : value < 0 ? "bad" : "" }, figure(value)),
      broken > 0 && h("span", { class: "broken", title }, ` ⚠${broken}`),
    ];
  }
  return name === "advantage" && value !== null ? signed(value) : figure(value);
}
