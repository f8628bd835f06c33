// The chat page: asks /v1/chat/completions and shows what comes as text, never as mark-up.
"use strict";
const byId = (id) => document.getElementById(id);
const talk = byId("talk"), form = byId("ask"), question = byId("question"), token = byId("token");
let running = null;

function make(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function headers() {
  const found = { "Content-Type": "application/json" };
  if (token.value) found.Authorization = `Bearer ${token.value}`;
  return found;
}

// One question's card. Thoughts, searches and passages are folded once the answer is there.
class Card {
  constructor(asked) {
    this.box = make("article");
    this.box.append(make("h2", "", asked));
    this.fold = make("details");
    this.fold.open = true;
    this.summary = make("summary", "", "thinking …");
    this.fold.append(this.summary);
    this.answer = make("p", "answer");
    this.box.append(this.fold, this.answer);
    this.part = null;
    this.kind = "";
    this.searches = 0;
    talk.append(this.box);
  }
  piece(kind, text) {
    if (kind === "answer") {
      this.answer.textContent += text;
      return;
    }
    if (kind !== this.kind || !this.part) {
      text = text.trimStart(); // after passages a policy begins with empty lines
      if (!text) return;
      this.kind = kind;
      this.part = make("p", kind === "query" ? "query" : "thought");
      this.fold.append(this.part);
    }
    this.part.textContent += text;
  }
  found(search) {
    this.searches += 1;
    this.part = null;
    const list = make("ol");
    for (const passage of search.passages) {
      const line = make("li");
      line.append(make("span", "title", passage.title || passage.passage_id), make("p", "", passage.text || ""));
      list.append(line);
    }
    const fold = make("details");
    fold.append(make("summary", "", `search ${this.searches}: ${search.passages.length} passages`), list);
    this.fold.append(fold);
  }
  end(told, ended) {
    const number = told.searches.length;
    this.summary.textContent = `thoughts and ${number} ${number === 1 ? "search" : "searches"}`;
    this.fold.open = told.answer === null;
    if (told.answer === null) this.box.append(make("p", "wrong", `no answer: ${told.finish_reason}`));
    if (told.citations.length) {
      const list = make("ul", "said");
      for (const one of told.citations)
        list.append(make("li", "", `[${one.search}.${one.rank}] ${one.title || one.passage_id}`));
      this.box.append(make("p", "said", "found in"), list);
    }
    if (ended === "length") this.box.append(make("p", "said", "cut at the limit of tokens"));
  }
  wrong(line) {
    this.summary.textContent = "stopped";
    this.box.append(make("p", "wrong", line));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines)
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
  }
}

async function ask(asked) {
  const card = new Card(asked);
  running = new AbortController();
  busy(true);
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: headers(),
      signal: running.signal,
      body: JSON.stringify({
        messages: [{ role: "user", content: asked }],
        stream: true,
        r1_searcher: { search: byId("search").checked },
      }),
    });
    if (!response.ok) {
      if (response.status === 401) token.type = "password"; // not before: browsers would offer to save one
      byId("key").hidden = response.status !== 401;
      card.wrong((await response.json()).error.message);
      return;
    }
    for await (const event of events(response.body)) {
      if (event.error) {
        card.wrong(event.error.message);
        return;
      }
      const [choice] = event.choices, own = event.r1_searcher || {};
      if (own.search) card.found(own.search);
      else if (choice && choice.finish_reason) card.end(own, choice.finish_reason);
      else if (own.kind) card.piece(own.kind, choice.delta.content || choice.delta.reasoning_content || "");
    }
  } catch (error) {
    card.wrong(error.name === "AbortError" ? "stopped" : "the server does not answer");
  } finally {
    running = null;
    busy(false);
  }
}

function busy(is) {
  byId("send").disabled = is;
  byId("stop").disabled = !is;
  if (!is) question.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = question.value.trim();
  if (!asked || running) return;
  question.value = "";
  byId("tries").hidden = true;
  ask(asked);
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
const stop = () => running && running.abort();
byId("stop").addEventListener("click", stop);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});

fetch("tries", { headers: headers() })
  .then((response) => (response.ok ? response.json() : { questions: [] }))
  .then(({ questions }) => {
    if (!questions.length) return;
    const place = byId("tries");
    place.append(make("p", "said", "This policy and its corpus know an invented world. Try:"));
    for (const one of questions) {
      const button = make("button", "", one);
      button.type = "button";
      button.addEventListener("click", () => {
        question.value = one;
        form.requestSubmit();
      });
      place.append(button);
    }
    place.hidden = false;
  });
question.focus();
