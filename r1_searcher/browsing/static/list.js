// The list of trajectories: filters, table, pages, and a selection that j and k move.

import { ask, wasDropped } from "./api.js";
import { h, put } from "./dom.js";
import { facets } from "./facets.js";
import { count, figure } from "./format.js";
import { address, filters, go, state } from "./state.js";
import { table } from "./table.js";

const LIMIT = 50;

export function list(main, known) {
  const chosen = state();
  const offset = Number(chosen.get("offset") ?? 0);
  const summary = h("p", { class: "summary", role: "status" }, "…");
  const body = h("div", { class: "body" }, h("p", { class: "waiting" }, "Reading…"));
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  const [aside, fillFacets] = facets(known);
  put(
    main,
    h("div", { class: "list" }, aside, h("div", { class: "found" }, h("h1", {}, "Trajectories"), summary, body, pages)),
  );
  let rows = [];
  let selected = -1;

  const show = (found) => {
    rows = found.rows;
    if (!rows.length) {
      put(body, h("p", { class: "empty" }, known.indexing.busy ? "Files are being read…" : "No trajectory matches."));
      put(pages);
      return;
    }
    const sort = { name: chosen.get("sort"), order: chosen.get("order") ?? "asc" };
    put(body, table(rows, { sort, added: known.added, offset, caption: "Trajectories" }));
    const numbers = `${count(offset + 1)}–${count(offset + rows.length)}`;
    put(
      pages,
      offset > 0 && h("a", { rel: "prev", href: address({ offset: Math.max(0, offset - LIMIT) || null }) }, "← before"),
      h("span", {}, numbers),
      rows.length === LIMIT && h("a", { rel: "next", href: address({ offset: offset + LIMIT }) }, "next →"),
    );
    const at = Number(chosen.get("at") ?? -1) - offset;
    if (selected >= 0 || (at >= 0 && at < rows.length)) select(selected >= 0 ? selected : at);
  };

  const load = async () => {
    const query = filters(chosen);
    query.set("limit", LIMIT);
    try {
      show(await ask("rows", query));
      const all = await ask("count", filters(chosen));
      put(
        summary,
        h("b", {}, count(all.rows)),
        all.rows === known.rows ? " trajectories" : ` of ${count(known.rows)} trajectories`,
        all.reward !== null && ` · mean reward ${figure(all.reward)}`,
        all.f1 !== null && ` · F1 ${figure(all.f1)}`,
        all.cover_em !== null && ` · Cover-EM ${figure(all.cover_em)}`,
        all.searches !== null && ` · ${figure(all.searches)} searches each`,
      );
      await fillFacets();
    } catch (error) {
      if (!wasDropped(error)) put(body, h("p", { class: "error" }, error.message));
    }
  };

  const select = (number) => {
    const lines = [...body.querySelectorAll("tbody tr")];
    if (!lines.length) return;
    selected = Math.max(0, Math.min(lines.length - 1, number));
    lines.forEach((line, place) => line.classList.toggle("selected", place === selected));
    const link = lines[selected].querySelector("a");
    link.focus({ preventScroll: true });
    lines[selected].scrollIntoView({ block: "nearest" });
  };

  load();
  return {
    title: "Trajectories",
    keys: {
      j: () => select(selected + 1),
      k: () => select(selected - 1),
      ArrowDown: () => select(selected + 1),
      ArrowUp: () => select(selected - 1),
      Enter: () => selected >= 0 && go(address({ view: "trajectory", id: rows[selected].id, at: offset + selected })),
      ArrowRight: () => pages.querySelector("[rel=next]")?.click(),
      ArrowLeft: () => pages.querySelector("[rel=prev]")?.click(),
    },
    changed: load,
  };
}
