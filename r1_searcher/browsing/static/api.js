// What the server knows. An answer that is no longer wanted is dropped.

const running = new Map();

export async function ask(path, query = "", what = path) {
  running.get(what)?.abort();
  const mine = new AbortController();
  running.set(what, mine);
  const words = String(query);
  const answer = await fetch(`/api/${path}${words ? `?${words}` : ""}`, { signal: mine.signal });
  const body = answer.headers.get("content-type")?.startsWith("application/json")
    ? await answer.json()
    : { detail: await answer.text() };
  if (!answer.ok) throw new Error(body.detail || `status ${answer.status}`);
  return body;
}

export const wasDropped = (error) => error.name === "AbortError";
