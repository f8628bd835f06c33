// One question through all iterations: the reward of each sample, and every answer.

import { ask, wasDropped } from "./api.js";
import { dots } from "./charts.js";
import { h, put } from "./dom.js";
import { plural } from "./format.js";
import { address, go, state } from "./state.js";
import { table } from "./table.js";

const sideBySide = (rows) => address({ view: "compare", left: rows[0].id, right: rows.at(-1).id }, new URLSearchParams());

export function question(main, known) {
  const chosen = state();
  put(main, h("p", { class: "waiting" }, "Reading…"));
  const link = (row) => address({ view: "trajectory", id: row.id }, new URLSearchParams());

  const load = async () => {
    try {
      const { rows } = await ask(`question/${(chosen.get("id") ?? "").replace("-", "/")}`, "", "question");
      if (!rows.length) return put(main, h("p", { class: "empty" }, "No trajectory of this question."));
      const trained = rows.filter((row) => row.iteration !== null && row.reward !== null);
      const iterations = new Set(trained.map((row) => row.iteration));
      return put(
        main,
        h(
          "nav",
          { class: "path", "aria-label": "Question" },
          h("a", { href: "/" }, "← all trajectories"),
          rows.length > 1 && h("a", { href: sideBySide(rows) }, "compare the first with the last"),
        ),
        h("h1", { class: "question" }, rows[0].question),
        h("p", { class: "answers" }, h("span", {}, "gold ", h("b", { class: "gold" }, (rows[0].golds ?? []).join(" / "))), h("span", {}, rows[0].question_id), h("span", {}, plural(rows.length, "trajectory", "trajectories"), ` in ${plural(iterations.size, "iteration", "iterations")}`)),
        trained.length > 0 && dots(trained, link),
        table(rows, { added: known.added, link, ofOne: true, caption: "Trajectories of this question" }),
      );
    } catch (error) {
      if (!wasDropped(error)) put(main, h("p", { class: "error" }, error.message));
      return null;
    }
  };

  load();
  return { title: "Question", keys: { Escape: () => go("/") } };
}
