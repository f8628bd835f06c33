// One trajectory.

import { ask, wasDropped } from "./api.js";
import { h, put } from "./dom.js";
import { count, placeOfOne } from "./format.js";
import { reward } from "./reward.js";
import { address, filters, go, state } from "./state.js";
import { COLOURS, moveToken, transcript } from "./transcript.js";

export const path = (id) => `trajectory/${id.replace("-", "/")}`;

export function heading(one) {
  return [
    h("h1", { class: "question" }, one.question ?? one.row.question_id),
    h(
      "p",
      { class: "answers" },
      h("span", {}, "answer ", one.answer === null || one.answer === undefined ? h("i", {}, "none") : h("b", {}, one.answer)),
      one.golds.length > 0 && h("span", {}, "gold ", h("b", { class: "gold" }, one.golds.slice(0, 5).join(" / "))),
      h("span", {}, "ended by ", h("b", {}, one.finish_reason ?? "–")),
      h("span", {}, placeOfOne(one.row)),
    ),
  ];
}

export function trajectory(main) {
  const chosen = state();
  const id = chosen.get("id") ?? "";
  const at = Number(chosen.get("at") ?? -1);
  const back = address({ view: null, id: null, colour: null });
  put(main, h("p", { class: "waiting" }, "Reading…"));

  const step = async (by) => {
    if (at < 0 || at + by < 0) return;
    const query = filters(chosen);
    query.set("offset", at + by);
    query.set("limit", 1);
    try {
      const { rows } = await ask("rows", query, "step");
      if (rows.length) go(address({ id: rows[0].id, at: at + by }), true);
    } catch (error) {
      if (!wasDropped(error)) put(main, h("p", { class: "error" }, error.message));
    }
  };

  const load = async () => {
    try {
      show(await ask(path(id), "", "trajectory"));
    } catch (error) {
      if (!wasDropped(error)) put(main, h("p", { class: "error" }, error.message), h("p", {}, h("a", { href: back }, "All trajectories")));
    }
  };

  const show = (one) => {
    const known = { logprob: "logprobs", advantage: "advantages" };
    const colours = COLOURS.filter(([name]) => name === "source" || one.tokens?.some((run) => run[known[name]]));
    const asked = chosen.get("colour");
    const colour = colours.some(([name]) => name === asked) ? asked : "source";
    const question = address({ view: "question", id: one.row.id }, new URLSearchParams());
    put(
      main,
      h(
        "nav",
        { class: "path", "aria-label": "Trajectory" },
        h("a", { href: back }, "← all trajectories"),
        at >= 0 && h("button", { type: "button", onclick: () => step(-1), disabled: at === 0 }, "← previous"),
        at >= 0 && h("span", {}, count(at + 1)),
        at >= 0 && h("button", { type: "button", onclick: () => step(1) }, "next →"),
        one.row.question_id && h("a", { href: question }, "this question in all iterations"),
        one.row.question_id && compare(one),
      ),
      heading(one),
      one.tokens &&
        h(
          "fieldset",
          { class: "colours" },
          h("legend", {}, "Colour by"),
          colours.map(([name, says]) =>
            h(
              "label",
              {},
              h("input", { type: "radio", name: "colour", value: name, checked: colour === name, onchange: () => go(address({ colour: name }), true) }),
              says,
            ),
          ),
        ),
      h("div", { class: "trajectory" }, transcript(one, { colour }), reward(one)),
      h("p", { class: "file" }, `${one.file}, row ${count(one.place + 1)}`, one.tokens && one.tokens_note ? `. ${one.tokens_note}` : ""),
    );
    document.title = one.question ?? "Trajectory";
  };

  load();
  return {
    title: "Trajectory",
    keys: {
      ArrowRight: () => step(1),
      ArrowLeft: () => step(-1),
      j: () => step(1),
      k: () => step(-1),
      Escape: () => go(back),
      ",": () => moveToken(-1),
      ".": () => moveToken(1),
    },
  };
}

function compare(one) {
  const choose = h("select", { "aria-label": "Compare with" }, h("option", { value: "" }, "compare with …"));
  choose.addEventListener("change", () => {
    if (choose.value) go(address({ view: "compare", left: one.row.id, right: choose.value }, new URLSearchParams()));
  });
  others(one.row, choose);
  return choose;
}

export async function others(row, choose, chosen = "") {
  let rows = [];
  try {
    ({ rows } = await ask(`question/${row.id.replace("-", "/")}`, "", `others ${chosen}`));
  } catch (error) {
    if (!wasDropped(error)) choose.append(h("option", { disabled: true }, error.message));
  }
  for (const other of rows) {
    if (other.id === row.id && !chosen) continue;
    const option = h("option", { value: other.id }, `${placeOfOne(other)}: ${other.answer ?? "no answer"}`);
    option.selected = other.id === chosen;
    choose.append(option);
  }
}
