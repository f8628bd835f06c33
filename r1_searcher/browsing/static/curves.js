// Curves of training, finished or going on.

import { ask, wasDropped } from "./api.js";
import { curve } from "./charts.js";
import { h, put } from "./dom.js";
import { count, duration, figure, label } from "./format.js";
import { back } from "./state.js";

const SECONDS = 3;
const STATES = { ok: "✓", warn: "⚠", stop: "■", unknown: "?" };
const WORDS = { ok: "fine", warn: "look at it", stop: "stops training", unknown: "unknown" };
const CHARTS = [
  ["reward", "Reward"],
  ["f1", "F1"],
  ["cover_em", "Cover-EM"],
  ["format_rate", "Right format"],
  ["searches", "Searches per question"],
  ["response_length", "Policy tokens per answer"],
  ["zero_advantage", "Zero-advantage groups"],
  ["kl_old_k3", "KL of an update (k3)"],
  ["entropy", "Entropy"],
  ["gradient_norm", "Gradient norm"],
];
const MORE = /^(component_|calls_|failed_|kl_ref)/;

export function curves(main) {
  put(main, h("p", { class: "waiting" }, "Reading…"));
  let shown = "";
  const load = async () => {
    try {
      const { runs } = await ask("curves");
      const text = JSON.stringify(runs);
      if (text === shown) return;
      shown = text;
      put(main, h("h1", {}, "Curves"), runs.length ? runs.map(run) : h("p", { class: "empty" }, "No curves in these folders yet."));
    } catch (error) {
      if (!wasDropped(error)) put(main, h("p", { class: "error" }, error.message));
    }
  };
  load();
  const timer = setInterval(load, SECONDS * 1000);
  return { title: "Curves", keys: { Escape: back }, end: () => clearInterval(timer), changed: load };
}

function run(one) {
  const now = one.segments.find((segment) => segment.live) ?? one.segments.at(-1);
  const edges = one.segments.map((segment) => segment.rows[0].iteration);
  const rows = one.segments.flatMap((segment) =>
    segment.rows.map((row) => ({ ...row, zero_advantage: row.num_groups ? row.num_zero_advantage_groups / row.num_groups : undefined })),
  );
  const extra = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => MORE.test(name)).sort();
  const timed = one.segments.flatMap((segment) => segment.speeds.filter((speed) => speed.tokens_per_second && speed.iteration));
  const speeds = [...new Map(timed.map((speed) => [speed.iteration, speed.tokens_per_second]))].sort(([a], [b]) => a - b);
  return h(
    "section",
    { class: "run", "aria-label": `Run ${one.run}` },
    h("h2", {}, one.run, " ", h("span", { class: now.live ? "state live" : "state" }, now.live ? "training" : "finished")),
    tiles(one, now),
    h(
      "ul",
      { class: "sentinels", "aria-label": "Sentinels" },
      now.sentinels.map((each) =>
        h("li", { class: each.state }, h("b", {}, h("span", { "aria-hidden": "true" }, STATES[each.state]), ` ${each.name}: ${WORDS[each.state]}`), h("span", {}, each.says)),
      ),
    ),
    h(
      "div",
      { class: "charts" },
      [...CHARTS, ...extra.map((name) => [name, label(name)])].map(([name, title]) => chart(name, title, rows, edges)),
      speeds.length > 1 && curve("Tokens per second (rollout)", [{ name: "tokens per second", kind: "line", points: speeds }], edges),
    ),
    h("p", { class: "legend" }, "Dashed: a segment begins. ", one.segments.map((segment) => `${segment.name}${segment.stage ? ` (${segment.stage})` : ""} from iteration ${segment.rows[0].iteration}`).join(", "), "."),
  );
}

function chart(name, title, rows, edges) {
  const points = (key) => rows.filter((row) => row[key] !== undefined).map((row) => [row.iteration, row[key]]);
  const lines = [{ name: "training", kind: "line", points: points(name) }];
  const seen = points(`watch_${name}`);
  if (seen.length) lines.push({ name: "validation", kind: "points", points: seen });
  return lines[0].points.length ? curve(title, lines, edges) : null;
}

function tiles(one, now) {
  const tile = (name, value, note) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, note && h("small", {}, note)));
  const last = now.rows.at(-1);
  return h(
    "dl",
    { class: "tiles" },
    h(
      "div",
      { class: "tile" },
      h("dt", {}, now.name),
      h("dd", {}, `${now.done}${now.planned ? ` / ${now.planned}` : ""}`, h("small", {}, "iterations")),
      now.planned && h("dd", {}, h("progress", { max: now.planned, value: now.done, "aria-label": "iterations done" })),
    ),
    tile("time left", now.planned && now.done >= now.planned ? "done" : duration(now.seconds_left), now.seconds_left ? "of this segment" : ""),
    tile("reward", figure(last.reward), "last iteration"),
    tile("tokens per second", now.tokens_per_second === null ? "–" : count(Math.round(now.tokens_per_second)), "rollout"),
    tile("searches per second", figure(now.searches_per_second, 3), "rollout"),
    tile("machine time", one.hours === null ? "–" : duration(one.hours * 3600), one.cost === null ? "" : `cost ${one.cost.toFixed(2)}`),
  );
}
