// Two trajectories of one question side by side: two policies, two iterations, or two samples.

import { ask, wasDropped } from "./api.js";
import { h, put } from "./dom.js";
import { figure, placeOfOne } from "./format.js";
import { reward } from "./reward.js";
import { address, back, go, state } from "./state.js";
import { others, path } from "./trajectory.js";
import { transcript } from "./transcript.js";

export function compare(main) {
  const chosen = state();
  put(main, h("p", { class: "waiting" }, "Reading…"));

  const column = (one, side) => {
    const choose = h("select", { "aria-label": `${side} trajectory` });
    choose.addEventListener("change", () => go(address({ [side]: choose.value })));
    others(one.row, choose, one.row.id);
    return h(
      "article",
      { "aria-label": placeOfOne(one.row) },
      h("h2", {}, h("a", { href: address({ view: "trajectory", id: one.row.id }, new URLSearchParams()) }, placeOfOne(one.row))),
      choose,
      h(
        "p",
        { class: "answers" },
        h("span", {}, "answer ", one.answer === null ? h("i", {}, "none") : h("b", {}, one.answer)),
        one.reward && h("span", {}, "reward ", h("b", {}, figure(one.reward.total))),
        h("span", {}, "F1 ", h("b", {}, figure(one.metrics.f1))),
      ),
      transcript(one),
      reward(one),
    );
  };

  const load = async () => {
    try {
      const sides = ["left", "right"];
      const both = await Promise.all(sides.map((side) => ask(path(chosen.get(side) ?? ""), "", side)));
      const golds = both[0].golds;
      put(
        main,
        h("nav", { class: "path", "aria-label": "Comparison" }, h("a", { href: "/" }, "← all trajectories"), h("a", { href: address({ left: chosen.get("right"), right: chosen.get("left") }) }, "swap sides")),
        h("h1", { class: "question" }, both[0].question ?? ""),
        golds.length > 0 && h("p", { class: "answers" }, h("span", {}, "gold ", h("b", { class: "gold" }, golds.slice(0, 5).join(" / ")))),
        both[0].row.question_id !== both[1].row.question_id && h("p", { class: "error" }, `The right one answers another question: ${both[1].question}`),
        h("div", { class: "two" }, both.map((one, number) => column(one, sides[number]))),
      );
      document.title = `Comparison: ${both[0].question}`;
    } catch (error) {
      if (!wasDropped(error)) put(main, h("p", { class: "error" }, error.message));
    }
  };

  load();
  return { title: "Comparison", keys: { Escape: back } };
}
