// What the reward said of a trajectory: its components, its rules, the metrics of the answer.

import { h } from "./dom.js";
import { figure, label } from "./format.js";

export function reward(one) {
  return h(
    "div",
    { class: "said" },
    h(
      "section",
      { "aria-label": "Reward" },
      h("h2", {}, "Reward ", one.reward ? h("b", { class: "total" }, figure(one.reward.total)) : h("small", {}, "none in these files")),
      one.reward && components(one.reward.components),
      one.counted === false && h("p", { class: "bad" }, "Left out of training."),
    ),
    h(
      "section",
      { "aria-label": "Rules" },
      h("h2", {}, "Rules"),
      one.rules.length
        ? h(
            "ul",
            { class: "rules" },
            one.rules.map((rule) => h("li", {}, h("code", {}, rule.rule), rule.says && ` ${rule.says}`)),
          )
        : h("p", {}, one.scored ? "No rule is broken." : "Not scored."),
    ),
    h(
      "section",
      { "aria-label": "Metrics" },
      h("h2", {}, "Metrics"),
      h(
        "dl",
        { class: "metrics" },
        Object.entries(one.metrics).map(([name, value]) =>
          h("div", {}, h("dt", {}, label(name)), h("dd", {}, typeof value === "boolean" ? (value ? "yes" : "no") : figure(value))),
        ),
      ),
    ),
  );
}

function components(found) {
  const most = Math.max(1, ...Object.values(found).map((value) => Math.abs(value ?? 0)));
  return h(
    "table",
    { class: "components" },
    h("caption", { class: "unseen" }, "Components of the reward"),
    h(
      "tbody",
      {},
      Object.entries(found).map(([name, value]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, label(name)),
          h("td", { class: value < 0 ? "bad" : value > 0 ? "good" : null }, figure(value)),
          h("td", { "aria-hidden": "true" }, h("meter", { class: value < 0 ? "down" : "up", min: 0, max: most, value: Math.abs(value ?? 0), tabindex: "-1" })),
        ),
      ),
    ),
  );
}
