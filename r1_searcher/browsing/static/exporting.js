// The present view as one HTML file: no script, nothing fetched, figures of tokens as tooltips.

import { told } from "./transcript.js";

export async function exported() {
  const style = await (await fetch("/static/style.css")).text();
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style));
  const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
  const title = document.createElement("title");
  title.textContent = document.title;
  const main = document.querySelector("main").cloneNode(true);
  for (const token of main.querySelectorAll(".token[data-id]")) {
    token.title = told(token);
    for (const name of Object.keys(token.dataset)) delete token.dataset[name];
  }
  for (const gone of main.querySelectorAll("nav, aside, input, select, button, .colours, .inspector")) gone.remove();
  for (const link of main.querySelectorAll("a")) link.removeAttribute("href");
  const { theme } = document.documentElement.dataset;
  // Data is in the clone alone, whose texts and attributes the browser escapes; all else is ours.
  return [
    "<!doctype html>",
    `<html lang="en"${theme === "dark" || theme === "light" ? ` data-theme="${theme}"` : ""}>`,
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    title.outerHTML,
    `<style>${style}</style>`,
    main.outerHTML,
    "</html>",
    "",
  ].join("\n");
}

export async function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await exported()], { type: "text/html" }));
  link.download = `${document.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "view"}.html`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
