// The filters beside the table.

import { ask, wasDropped } from "./api.js";
import { h, put } from "./dom.js";
import { count, figure, label } from "./format.js";
import { address, filters, go, state } from "./state.js";
import { FURTHER } from "./table.js";

const GROUPS = ["kind", "run", "policy", "benchmark", "question_kind", "finish_reason", "format_right", "violations"];
const PARAMETER = { violations: "rule" };
const TITLES = { violations: "broken rule", format_right: "format right", finish_reason: "finish reason" };
const FIRST_RANGES = ["reward", "searches", "iteration"];
const EMPTY = { violations: "none broken", benchmark: "not an evaluation", format_right: "not scored" };
const SHOWN = 8;

export function facets(known) {
  const chosen = state();
  const groups = h("div", { class: "groups" });
  const box = h("aside", { class: "facets", "aria-label": "Filters" });
  const wide = matchMedia("(min-width: 60rem)").matches;
  const clear = [...filters(chosen).keys()].some((name) => !["sort", "order", "offset", "limit"].includes(name));
  put(
    box,
    h(
      "details",
      { class: "all", open: wide },
      h("summary", {}, "Filters"),
      clear && h("p", {}, h("a", { class: "clear", href: "/" }, "Clear all filters")),
      ranges(known, chosen),
      groups,
    ),
  );
  return [box, () => fill(groups, chosen)];
}

async function fill(groups, chosen) {
  let found;
  try {
    found = await ask("facets", filters(chosen));
  } catch (error) {
    if (!wasDropped(error)) put(groups, h("p", { class: "error" }, error.message));
    return;
  }
  put(
    groups,
    GROUPS.map((name) => group(name, found[name] ?? [], chosen)),
  );
}

function group(name, values, chosen) {
  const parameter = PARAMETER[name] ?? name;
  const picked = chosen.getAll(parameter);
  const missing = picked.filter((one) => !values.some(([value]) => value === one)).map((one) => [one, 0]);
  const all = [...values, ...missing];
  if (all.length < 2 && !picked.length && name !== "violations") return null;
  if (!all.length) return null;
  const row = ([value, number]) => {
    const id = `${parameter}-${value}`;
    const toggle = () => {
      const next = picked.includes(value) ? picked.filter((one) => one !== value) : [...picked, value];
      go(address({ [parameter]: next, offset: null }));
    };
    const text = value === "" ? (EMPTY[name] ?? "unknown") : value;
    return h(
      "li",
      {},
      h("input", { type: "checkbox", id, checked: picked.includes(value), onchange: toggle }),
      h("label", { for: id }, h("span", { class: "value" }, text), " ", h("span", { class: "number" }, count(number))),
    );
  };
  const rows = all.map(row);
  const more = rows.slice(SHOWN);
  return h(
    "fieldset",
    {},
    h("legend", {}, TITLES[name] ?? label(name)),
    h("ul", {}, rows.slice(0, SHOWN)),
    more.length > 0 && h("details", {}, h("summary", {}, `${more.length} more`), h("ul", {}, more)),
  );
}

function ranges(known, chosen) {
  const names = Object.keys(known.bounds ?? {});
  const first = FIRST_RANGES.filter((name) => names.includes(name));
  const others = names.filter((name) => !first.includes(name));
  const open = others.some((name) => chosen.has(`min_${name}`) || chosen.has(`max_${name}`));
  return h(
    "fieldset",
    { class: "ranges" },
    h("legend", {}, "figures"),
    first.map((name) => range(name, known.bounds[name], chosen)),
    others.length > 0 &&
      h(
        "details",
        { open },
        h("summary", {}, `${others.length} more figures`),
        others.map((name) => range(name, known.bounds[name], chosen)),
      ),
  );
}

function range(name, [least, most], chosen) {
  const field = (begin, hint, what) => {
    const parameter = `${begin}_${name}`;
    return h("input", {
      type: "text",
      inputmode: "decimal",
      name: parameter,
      "aria-label": `${label(name)}, ${what}`,
      placeholder: figure(hint),
      value: chosen.get(parameter) ?? "",
      onchange: (event) => go(address({ [parameter]: event.target.value.trim() || null, offset: null })),
    });
  };
  return h(
    "div",
    { class: "range" },
    FURTHER.includes(name)
      ? h("a", { href: address({ sort: name, order: "desc", offset: null }), title: `Show ${label(name)} and sort by it` }, label(name))
      : h("span", {}, label(name)),
    field("min", least, "at least"),
    h("span", { "aria-hidden": "true" }, "–"),
    field("max", most, "at most"),
  );
}
