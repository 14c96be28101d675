"use strict";
// The question browser. All texts of the run are set as text, never as HTML.
const ROW = 32, NAMES = { f: "failed", u: "unparsed", w: "wrong", p: "partly right", r: "right" };
const MARKS = { f: "⊘", u: "?", w: "✗", p: "◐", r: "✓" };
const $ = id => document.getElementById(id);
const make = (tag, text, cls) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (cls) made.className = cls;
  return made;
};
const figure = count => count.toLocaleString("en");
// Control characters and marks that turn the direction of a text are shown as signs.
const plain = text => text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g,
  sign => sign < " " ? String.fromCharCode(0x2400 + sign.charCodeAt(0)) : "\ufffd");

async function block(id) {
  const coded = atob($(id).textContent.trim()), bytes = new Uint8Array(coded.length);
  for (let at = 0; at < coded.length; at++) bytes[at] = coded.charCodeAt(at);
  $(id).remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

let data, answers, details, texts, pictures, found = [], chosen = -1, outcome = "", starts = [];
const bench = row => starts.findLastIndex(start => start <= row);

function answer(row) {
  const told = answers[row], whole = details.get(row)?.[2];
  if (whole || typeof told === "string") return { text: whole || told };
  return { text: told[0], tail: told[1], length: told[2] };
}

// One lower-case text per question, made at the first search.
function searched() {
  return texts ??= data.item.map((item, row) => {
    const shown = answer(row);
    return [item, data.category.texts[data.category.at[row]], data.read.texts[data.read.at[row]],
      data.truth.texts[data.truth.at[row]], shown.text, shown.tail ?? "",
      details.get(row)?.[1] ?? ""].join("\n").toLowerCase();
  });
}

function filter() {
  const words = $("search").value.toLowerCase().trim(), where = words ? searched() : null;
  const one = data.filters[$("benchmark").value], part = one?.parts[$("category").value];
  const types = part && new Set(part[2]), counts = { f: 0, u: 0, w: 0, p: 0, r: 0 };
  found = [];
  for (const place of one ? one.spans : data.spans.keys())
    for (let row = starts[place]; row < starts[place + 1]; row++) {
      if (types && !types.has(data.category.texts[data.category.at[row]])) continue;
      if (where && !where[row].includes(words)) continue;
      counts[data.outcome[row]]++;
      if (!outcome || data.outcome[row] === outcome) found.push(row);
    }
  for (const button of $("outcomes").children) {
    const kind = button.dataset.outcome;
    const count = kind ? counts[kind] : Object.values(counts).reduce((sum, n) => sum + n, 0);
    button.textContent = `${NAMES[kind] ?? "all"} ${figure(count)}`;
    button.setAttribute("aria-pressed", kind === outcome);
    button.disabled = !count && kind !== outcome;
  }
  $("count").textContent = `${figure(found.length)} of ${figure(data.item.length)} questions`;
  $("rows").style.height = `${found.length * ROW}px`;
  $("list").scrollTop = 0;
  choose(found.length ? 0 : -1);
}

// What was read of an answer, or the answer where the backend's files do not tell.
function readAs(row, text) {
  const read = data.read.texts[data.read.at[row]];
  return read !== "not recorded" || !text ? read : `“${text.length > 20 ? text.slice(0, 19) + "…" : text}”`;
}

function draw() {
  const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - 8);
  const last = Math.min(found.length, first + Math.ceil(list.clientHeight / ROW) + 16), shown = [];
  for (let at = first; at < last; at++) {
    const row = found[at], line = make("div", undefined, "q"), kind = data.outcome[row], text = answer(row);
    line.id = `q${at}`;
    line.style.top = `${at * ROW}px`;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", at === chosen);
    line.setAttribute("aria-posinset", at + 1);
    line.setAttribute("aria-setsize", found.length);
    const mark = make("span", MARKS[kind], `o ${kind}`);
    mark.setAttribute("aria-label", NAMES[kind]);
    line.append(mark, make("span", data.spans[bench(row)][1]), make("span", plain(data.category.texts[data.category.at[row]])),
      make("span", plain(data.truth.texts[data.truth.at[row]])), make("span", plain(readAs(row, text.text))),
      make("bdi", plain(text.text + (text.tail ? " … " + text.tail : "")).replace(/\s+/g, " "), "muted"));
    line.addEventListener("click", () => choose(at));
    shown.push(line);
  }
  $("rows").replaceChildren(...shown);
}

function choose(at) {
  chosen = at;
  const list = $("list"), top = at * ROW;
  if (at >= 0 && top < list.scrollTop) list.scrollTop = top;
  if (at >= 0 && top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  list.setAttribute("aria-activedescendant", at < 0 ? "" : `q${at}`);
  draw();
  show(found[at]);
}

function show(row) {
  const pane = $("detail");
  pane.scrollTop = 0;
  if (row === undefined) return pane.replaceChildren(make("p", "No question fits these filters.", "muted"));
  const [, question, , media] = details.get(row) ?? [], told = answer(row), span = data.spans[bench(row)];
  const kind = data.outcome[row], parts = [], facts = make("dl", undefined, "facts");
  const add = (title, ...inner) => parts.push(make("h3", title), ...inner);
  const fact = (name, value) => value !== "" && facts.append(make("dt", name), make("dd", plain(value)));
  parts.push(make("b", `${MARKS[kind]} ${NAMES[kind]}`, `o ${kind}`), make("span", ` ${span[1]}, ${plain(data.item[row])}`));
  fact("category", data.category.texts[data.category.at[row]]);
  fact("read as", data.read.texts[data.read.at[row]]);
  fact("truth", data.truth.texts[data.truth.at[row]]);
  fact("points", data.points?.[row] ?? (kind === "p" ? `${data.score[row]} of 100` : ""));
  const worker = data.worker.texts[data.worker.at[row]];
  if (data.seconds[row] != null) fact("time", `${data.seconds[row]} s${worker && ` by ${worker}`}`);
  parts.push(facts);
  if (question || span[3]) add("Question", question ? make("pre", plain(question)) : make("p", `not in this page; see ${span[3]}`, "hint"));
  const names = (media ?? "").split("\n").filter(Boolean);
  if (names.length) {
    const seen = names.map(name => pictures[name]).filter(Boolean).map(code => {
      const picture = make("img");
      picture.src = `data:image/jpeg;base64,${code}`;
      picture.alt = "";
      return picture;
    });
    add("Media", ...seen, make("div", plain(names.slice(0, 4).join("\n") + (names.length > 4 ? `\nand ${names.length - 4} more` : "")), "hint"));
  }
  add("Answer", make("pre", told.text ? plain(told.text + (told.tail === undefined ? "" : " […] " + told.tail)) : kind === "f" ? "(no answer: the question failed)" : "(empty)"));
  if (told.length) parts.push(make("p", `Shortened from ${figure(told.length)} characters; the whole answer is in ${span[3]}`, "hint"));
  pane.replaceChildren(...parts);
}

function fillCategories() {
  const one = data.filters[$("benchmark").value];
  $("category").replaceChildren(new Option("all categories", ""), ...(one ? one.parts.map((part, at) => new Option(part[1], at)) : []));
  $("category").disabled = !one?.parts.length;
}

function keys(event) {
  const page = Math.floor($("list").clientHeight / ROW), typing = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing) $("search").focus();
  else if (event.key === "Escape" && event.target === $("search")) { $("search").value = ""; filter(); $("list").focus(); }
  else if (event.key === "Enter" && event.target === $("search")) $("list").focus();
  else {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.target !== $("list") || !found.length) return;
    choose(Math.min(found.length - 1, Math.max(0, chosen + step)));
  }
  event.preventDefault();
}

function jump(event) {
  const link = event.target.closest("a[data-key]");
  if (!link) return;
  const at = data.filters.findIndex(one => one.key === link.dataset.key);
  $("benchmark").value = at;
  fillCategories();
  const part = data.filters[at]?.parts.findIndex(one => one[0] === link.dataset.part) ?? -1;
  $("category").value = part < 0 ? "" : part;
  $("search").value = "";
  outcome = "";
  filter();
}

async function start() {
  for (const button of document.querySelectorAll("button.copy"))
    button.addEventListener("click", () => navigator.clipboard?.writeText(button.nextElementSibling.textContent)
      .then(() => (button.textContent = "Copied")));
  if (!$("list")) return;
  if (!window.DecompressionStream) throw new Error("it needs a browser of 2023 or later");
  data = JSON.parse(await block("facts"));
  Object.assign(NAMES, data.names);
  Object.assign(MARKS, data.marks);
  answers = JSON.parse(await block("texts"));
  details = new Map((await block("details")).split("\n").filter(Boolean).map(line => JSON.parse(line)).map(one => [one[0], one]));
  pictures = JSON.parse($("pictures").textContent || "{}");
  starts = [0];
  for (const span of data.spans) starts.push(starts.at(-1) + span[2]);
  $("benchmark").append(...data.filters.map((one, at) => new Option(one.title, at)));
  for (const kind of ["", ..."fuwpr"]) {
    if (kind && !data.outcome.includes(kind)) continue;
    const button = make("button");
    button.type = "button";
    button.dataset.outcome = kind;
    button.addEventListener("click", () => { outcome = kind; filter(); });
    $("outcomes").append(button);
  }
  $("search").addEventListener("input", filter);
  $("benchmark").addEventListener("change", () => { fillCategories(); filter(); });
  $("category").addEventListener("change", filter);
  $("list").addEventListener("scroll", draw);
  document.addEventListener("keydown", keys);
  document.addEventListener("click", jump);
  fillCategories();
  filter();
  document.body.dataset.ready = "yes";
}
start().catch(error => { $("count").textContent = `The questions cannot be shown: ${error.message}`; });
