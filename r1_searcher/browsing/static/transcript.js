// A transcript: who wrote what, in colour; each token with its figures.

import { h, put } from "./dom.js";
import { figure, signed } from "./format.js";

const WHO = { policy: "policy", document: "inserted documents", prompt: "prompt", forced: "inserted by the baseline", search: "search" };

export const COLOURS = [
  ["source", "who wrote it"],
  ["logprob", "log-probability"],
  ["advantage", "advantage"],
];

export function transcript(one, { colour = "source" } = {}) {
  const inspector = h("p", { class: "inspector", role: "status" }, one.tokens ? ["Point at a token, or move with ", h("kbd", {}, ","), " and ", h("kbd", {}, "."), "."] : one.tokens_note);
  const body = h("div", { class: `transcript by-${colour}`, tabindex: "0", role: "region", "aria-label": "Transcript" });
  const documents = one.parts.filter((part) => part.source === "document");
  const paired = one.tokens?.filter((run) => run.source === "document").length === documents.length;
  if (one.tokens) {
    // Full colour from 1 on, as advantages are normalised: what hardly trained is pale.
    const most = Math.max(1, ...one.tokens.flatMap((run) => (run.advantages ?? []).map(Math.abs)));
    for (const run of one.tokens) {
      const part = run.source === "document" && paired ? documents.shift() : null;
      body.append(part ? segment(part) : tokens(run, most));
    }
    for (const part of one.parts) if (part.source === "search") body.append(segment(part));
  } else {
    if (one.prompt) body.append(block("prompt", h("div", { class: "words" }, one.prompt)));
    for (const part of one.parts) body.append(segment(part));
  }
  follow(body, inspector);
  return h("div", { class: "reading" }, body, inspector);
}

function block(source, ...inside) {
  return h("section", { class: `part ${source}` }, h("p", { class: "who" }, WHO[source] ?? source), inside);
}

function tokens(run, most) {
  const words = h("div", { class: "words" });
  run.texts.forEach((text, place) => {
    const logprob = run.logprobs?.[place];
    const advantage = run.advantages?.[place];
    const known = logprob !== undefined && logprob !== null;
    const steps = [run.kinds?.[place] ?? ""];
    if (known) steps.push(`lp${Math.min(4, Math.floor(-logprob / 0.7))}`);
    if (advantage) steps.push(`${advantage > 0 ? "up" : "down"}${Math.ceil((4 * Math.abs(advantage)) / most)}`);
    words.append(
      h(
        "span",
        {
          class: `token ${steps.join(" ")}`,
          "data-id": run.ids[place],
          "data-logprob": known ? logprob : null,
          "data-advantage": advantage ?? null,
          "data-reference": run.references?.[place] ?? null,
        },
        text,
      ),
    );
  });
  return block(run.source, words);
}

function segment(part) {
  const words = h("div", { class: "words" }, pieces(part.pieces));
  if (part.source !== "document" && part.source !== "search") return block(part.source, words);
  const head = h(
    "p",
    { class: "query" },
    h("b", {}, part.tool ?? "search"),
    part.query !== null && part.query !== undefined && h("q", {}, part.query),
    part.error && h("span", { class: "error" }, ` failed: ${part.error}`),
  );
  const passages = part.passages ?? [];
  if (!passages.length) return block(part.source, head, part.source === "document" && words);
  return block(
    part.source,
    head,
    h(
      "ol",
      { class: "passages" },
      passages.map((passage) =>
        h(
          "li",
          { class: passage.gold ? "has-gold" : null },
          h(
            "p",
            { class: "score" },
            passage.score !== null ? `score ${figure(passage.score, 4)}` : "",
            passage.id && ` · ${passage.id}`,
            passage.gold && h("span", { class: "flag" }, "holds the gold answer"),
          ),
          h("div", { class: "words" }, pieces(passage.pieces)),
        ),
      ),
    ),
  );
}

const pieces = (all) => all.map(([text, kind]) => (kind ? h(kind.includes("gold") ? "mark" : "span", { class: kind }, text) : text));

export function told(token) {
  const { id, logprob, advantage, reference } = token.dataset;
  const parts = [`token ${id}`];
  if (logprob !== undefined) {
    const value = Number(logprob);
    parts.push(`log-probability ${figure(value)}`, `probability ${figure(Math.exp(value))}`);
  }
  if (reference !== undefined) parts.push(`of the reference ${figure(Number(reference))}`);
  if (advantage !== undefined) parts.push(`advantage ${signed(Number(advantage))}`);
  return parts.join(" · ");
}

function follow(body, inspector) {
  let at = null;
  const show = (token) => {
    at?.classList.remove("at");
    at = token;
    token.classList.add("at");
    put(inspector, h("b", { class: "token-text" }, JSON.stringify(token.textContent)), " ", told(token));
  };
  body.addEventListener("pointerover", (event) => event.target.classList.contains("token") && show(event.target));
  body.addEventListener("token", (event) => {
    const all = [...body.querySelectorAll(".policy .token")];
    if (!all.length) return;
    const next = Math.max(0, Math.min(all.length - 1, all.indexOf(at) + event.detail));
    show(all[next]);
    all[next].scrollIntoView({ block: "nearest" });
  });
}

export function moveToken(by) {
  const body = document.querySelector(".transcript");
  body?.dispatchEvent(new CustomEvent("token", { detail: by }));
}
