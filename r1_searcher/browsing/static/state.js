// The whole state of a view is its address, so a link opens exactly that view.

let whenChanged = () => {};

export const onChange = (listener) => {
  whenChanged = listener;
};

export const state = () => new URLSearchParams(location.search);

export function address(changes, from = state()) {
  const next = new URLSearchParams(from);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) next.append(name, one);
    }
  }
  const query = next.toString();
  return query ? `/?${query}` : "/";
}

export function go(url, replace = false) {
  if (replace) history.replaceState(history.state, "", url);
  else history.pushState({ inside: true }, "", url);
  whenChanged();
}

// Filters that a page of the table has; everything else in an address belongs to another view.
const OTHERS = ["view", "id", "left", "right", "at", "colour", "run_of", "question_of"];

// To the view before this one; from a view that was opened by its address, to the table.
export const back = () => (history.state?.inside ? history.back() : go("/"));

export function filters(from = state()) {
  const found = new URLSearchParams(from);
  for (const name of OTHERS) found.delete(name);
  return found;
}

export function listen() {
  addEventListener("popstate", () => whenChanged());
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='/?'], a[href='/']");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
}
