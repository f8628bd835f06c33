// Drawings: dots of one question's samples, and lines over iterations.

import { h, svg } from "./dom.js";
import { figure, placeOfOne } from "./format.js";

const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 48;
const BOTTOM = 22;
const TOP = 10;
const RIGHT = 10;

function scale(values, from, to) {
  const least = Math.min(...values);
  const most = Math.max(...values);
  const width = most - least || 1;
  const at = (value) => (least === most ? (from + to) / 2 : from + ((value - least) / width) * (to - from));
  return { least, most, at };
}

function frame(x, y, height, width, unit) {
  const middle = (y.least + y.most) / 2;
  return [
    [y.least, middle, y.most].map((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.at(value), y2: y.at(value) }),
      svg("text", { class: "end", x: LEFT - 5, y: y.at(value) + 3.5 }, figure(value, 2)),
    ]),
    x.least < x.most && svg("text", { x: x.at(x.least), y: height - 5 }, figure(x.least)),
    x.least < x.most
      ? svg("text", { class: "end", x: width - RIGHT, y: height - 5 }, `${unit} ${figure(x.most)}`)
      : svg("text", { class: "middle", x: x.at(x.most), y: height - 5 }, `${unit} ${figure(x.most)}`),
  ];
}

export function dots(rows, link) {
  const height = 190;
  const width = 760;
  const x = scale(rows.map((row) => row.iteration), LEFT + 10, width - RIGHT - 10);
  const y = scale([...rows.map((row) => row.reward), 0, 1], height - BOTTOM, TOP);
  const stacked = new Map();
  const marks = rows.map((row) => {
    const key = `${row.iteration} ${row.reward}`;
    const above = stacked.get(key) ?? 0;
    stacked.set(key, above + 1);
    const says = `${placeOfOne(row)}: reward ${figure(row.reward)}, ${row.answer ?? "no answer"}`;
    const spread = ((above % 2 ? 1 : -1) * Math.ceil(above / 2)) * 4;
    return svg("a", { href: link(row), "aria-label": says }, svg("circle", { class: row.f1 >= 1 ? "dot right" : "dot", cx: x.at(row.iteration) + spread, cy: y.at(row.reward), r: 4 }, svg("title", {}, says)));
  });
  return h(
    "figure",
    { class: "chart wide" },
    h("figcaption", {}, "Reward of each sample ", h("span", { class: "key right" }, "right answer"), h("span", { class: "key" }, "other")),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Reward of each sample by iteration" }, frame(x, y, height, width, "iteration"), marks),
  );
}

// ``lines``: [{name, kind: "line" | "points", points: [[x, y], …]}]; ``edges``: where segments begin.
export function curve(title, lines, edges, { note = "", unit = "iteration" } = {}) {
  const all = lines.flatMap((line) => line.points);
  if (!all.length) return null;
  const x = scale(all.map(([value]) => value), LEFT, WIDTH - RIGHT);
  const y = scale(all.map(([, value]) => value), HEIGHT - BOTTOM, TOP);
  const last = lines[0].points.at(-1) ?? all.at(-1);
  const readout = h("span", { class: "readout" }, figure(last[1]));
  const cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, x1: -10, x2: -10 });
  const plot = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: last ${figure(last[1])}, from ${figure(y.least)} to ${figure(y.most)}` },
    frame(x, y, HEIGHT, WIDTH, unit),
    edges.filter((edge) => edge > x.least && edge <= x.most).map((edge) => svg("line", { class: "edge", x1: x.at(edge - 0.5), x2: x.at(edge - 0.5), y1: TOP, y2: HEIGHT - BOTTOM })),
    lines.map((line, number) => drawn(line, number, x, y, edges)),
    cross,
  );
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    const [near] = [...lines[0].points].sort((a, b) => Math.abs(x.at(a[0]) - place) - Math.abs(x.at(b[0]) - place));
    if (!near) return;
    readout.textContent = `${unit} ${figure(near[0])}: ${figure(near[1])}`;
    cross.setAttribute("x1", x.at(near[0]));
    cross.setAttribute("x2", x.at(near[0]));
  });
  plot.addEventListener("pointerleave", () => {
    readout.textContent = figure(last[1]);
    cross.setAttribute("x1", -10);
    cross.setAttribute("x2", -10);
  });
  const keys = lines.length > 1 && lines.map((line, number) => h("span", { class: `key ${line.kind} n${number}` }, line.name));
  return h("figure", { class: "chart" }, h("figcaption", {}, h("span", { class: "name" }, title), readout, keys, note && h("small", {}, note)), plot);
}

function drawn(line, number, x, y, edges) {
  if (line.kind === "points") return line.points.map(([a, b]) => svg("circle", { class: `point n${number}`, cx: x.at(a), cy: y.at(b), r: 3.5 }, svg("title", {}, `${line.name}, ${figure(a)}: ${figure(b)}`)));
  // No line crosses into another segment: its stage may give rewards another meaning.
  const pieces = new Map();
  for (const [a, b] of line.points) {
    const segment = edges.filter((edge) => edge <= a).length;
    pieces.set(segment, [...(pieces.get(segment) ?? []), `${x.at(a).toFixed(1)},${y.at(b).toFixed(1)}`]);
  }
  return [...pieces.values()].map((places) =>
    places.length > 1 ? svg("polyline", { class: `line n${number}`, points: places.join(" ") }) : lone(places[0], number),
  );
}

function lone(place, number) {
  const [cx, cy] = place.split(",");
  return svg("circle", { class: `lone n${number}`, cx, cy, r: 2 });
}
