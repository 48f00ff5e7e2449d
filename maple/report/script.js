"use strict";
// Sorting, two filters, and a dialog that draws what a cell opens. All text enters the page as text, never as HTML.

const payload = JSON.parse(document.getElementById("payload").textContent);
const dialog = document.getElementById("opened");

/** An element with attributes and children; a child that is a string becomes text. */
function make(tag, attributes = {}, ...children) {
  const space = ["svg", "path", "line", "text", "title"].includes(tag) && attributes.svg !== false;
  const element = space && tag !== "title" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function table(header, rows) {
  const head = make("tr", {}, ...header.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell instanceof Node ? cell : String(cell)))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

function facts(pairs) {
  const rows = pairs.map(([key, value]) => make("div", {}, make("dt", {}, key), make("dd", {}, value instanceof Node ? value : String(value))));
  return make("dl", { class: "facts" }, ...rows);
}

function folded(title, ...children) {
  return make("details", {}, make("summary", {}, title), ...children);
}

// -- Dialog ----------------------------------------------------------------------------------------------------------

function show(title, ...children) {
  document.getElementById("opened-title").textContent = title;
  document.getElementById("opened-body").replaceChildren(...children.filter(Boolean));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  document.getElementById("opened-title").focus();
}

/** A cell of Table 1 or 2: the two numbers, how they were compared, and the records behind ours. */
function showCell(cell) {
  const names = cell.cells.filter((name) => payload.records[name]);
  const left = new Set(["table", "row", "column", "cells"]);
  const pairs = Object.entries(cell).filter(([key]) => !left.has(key)).map(([key, value]) => [key.replace("_", " "), value]);
  const links = names.map((name) => make("p", {}, make("button", { type: "button", class: "link", "data-record": name }, `Open ${name}`)));
  show(`${cell.table.replace("table", "Table ")}: ${cell.row}, ${cell.column}`, facts(pairs), ...links);
}

function showRecord(name) {
  const record = payload.records[name];
  if (!record) return;
  const pairs = Object.entries(record.facts).map(([key, value]) => [key, typeof value === "number" ? value.toLocaleString("en") : value]);
  const parts = Object.entries(record.parts).map(([title, place]) => folded(title, tree(payload.shared[place])));
  show(name, facts(pairs), record.curve.length ? curve(record.curve) : null, ...parts, scores(record), examples(name));
  history.replaceState(null, "", `#record=${name}`);
}

/** Any JSON value as nested lists. */
function tree(value) {
  if (value === null || typeof value !== "object") return document.createTextNode(value === null ? "none" : String(value));
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return document.createTextNode(value.join(", "));
  const rows = Object.entries(value).map(([key, inner]) => make("li", {}, make("b", {}, `${key}: `), tree(inner)));
  return make("ul", {}, ...rows);
}

function curve(points) {
  const [width, height, left, bottom] = [640, 200, 48, 24];
  const losses = points.map(([, loss]) => loss);
  const [low, high, last] = [Math.min(...losses), Math.max(...losses), points[points.length - 1][0]];
  const x = (step) => left + ((width - left - 8) * step) / last;
  const y = (loss) => 8 + ((height - bottom - 8) * (high - loss)) / (high - low || 1);
  const label = `Training loss: ${losses[0]} at first, ${losses[losses.length - 1]} after ${last} steps, lowest ${low}.`;
  const line = points.map(([step, loss], place) => `${place ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const text = (content, px, py, anchor) => make("text", { x: px, y: py, "text-anchor": anchor, "font-size": 11 }, content);
  const drawing = make(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "curve" },
    make("path", { d: `M${left} 8V${height - bottom}H${width - 8}`, fill: "none", stroke: "#888" }),
    make("path", { d: line, fill: "none", stroke: "#0072B2", "stroke-width": 1.5 }),
    text(high.toFixed(2), left - 4, 14, "end"),
    text(low.toFixed(2), left - 4, height - bottom, "end"),
    text("0", left, height - 8, "middle"),
    text(`${last} steps`, width - 8, height - 8, "end"),
  );
  return make("div", {}, make("h3", {}, "Training loss"), drawing, make("p", {}, label));
}

function scores(record) {
  const blocks = payload.layout.map((block, place) => {
    const rows = [];
    block.languages.forEach((code, column) => {
      const score = record.scores[place][column];
      if (!score) return;
      const [value, low, high] = score.slice(0, 3).map((number) => (number / 10000).toFixed(4));
      rows.push([code, value, `${low} to ${high}`, score[3], payload.shared[score[4]]]);
    });
    if (!rows.length) return null;
    const mean = rows.reduce((sum, row) => sum + Number(row[1]), 0) / rows.length;
    const chance = block.chance === null ? "" : `, chance ${block.chance}`;
    return folded(`${block.task}: ${mean.toFixed(3)} (${block.metric}${chance}, ${rows.length} ${rows.length > 1 ? "languages" : "language"})`, table(["language", block.metric, "95 % interval", "n", "signature"], rows));
  });
  return make("div", {}, make("h3", {}, "Scores"), ...blocks.filter(Boolean));
}

/** Answers, with a choice of task and language; text keeps its own direction. */
function examples(name) {
  const answers = payload.examples.answers[name];
  if (!answers) return null;
  const items = payload.examples.items.map((item, place) => [...item, answers[place]]).filter((item) => item[6]);
  const groups = [...new Set(items.map(([task, language]) => `${task} ${language}`))];
  const choice = make("select", {}, ...groups.map((group) => make("option", {}, group)));
  const shown = make("div", {});
  const draw = () => {
    const chosen = items.filter(([task, language]) => `${task} ${language}` === choice.value);
    shown.replaceChildren(...chosen.map(example));
  };
  choice.addEventListener("change", draw);
  draw();
  return make("div", {}, make("h3", {}, "Answers"), make("label", {}, "Task and language ", choice), shown);
}

function example([, language, id, prompt, options, reference, [answer, score, more]]) {
  const inScript = (text, kind) => make("p", { dir: "auto", lang: language, class: kind }, text);
  const block = make("div", { class: "answer" }, make("p", {}, make("b", {}, id), score === null ? "" : `, score ${score}`), inScript(prompt, "prompt"));
  if (options) {
    const rows = options.map((text, place) => [place === answer ? "chosen" : "", make("span", { dir: "auto", lang: language }, text), more[place]]);
    block.append(table(["", "option", "log-likelihood"], rows));
  } else {
    block.append(make("p", {}, make("b", {}, "Answer")), inScript(answer, "output"));
    if (more) block.append(make("p", {}, make("b", {}, "Read as")), inScript(more, "output"));
  }
  block.append(make("p", {}, make("b", {}, "Reference")), inScript(reference, "reference"));
  return block;
}

// -- Sorting and filters ------------------------------------------------------------------------------------------------

/** Numbers by size, words by alphabet, empty cells last in both directions. */
function sort(button) {
  const heading = button.closest("th");
  const body = heading.closest("table").tBodies[0];
  const column = [...heading.parentNode.children].indexOf(heading);
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of heading.parentNode.children) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.children[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    return text === "" || text === "missing" ? null : isNaN(text) ? text : Number(text);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (ascending ? 1 : -1)));
  body.append(...rows.map(([, row]) => row));
}

function filterTables(value) {
  const section = document.getElementById("tables");
  section.classList.toggle("only-differs", value === "differs");
  const count = section.querySelectorAll("td.differs, td.missing").length;
  document.getElementById("filter-status").textContent = value === "differs" ? `${count} cells differ or are missing` : "";
}

function filterCells(words) {
  const rows = [...document.getElementById("cells").tBodies[0].rows];
  for (const row of rows) row.hidden = !words.every((word) => row.cells[0].textContent.toLowerCase().includes(word));
  document.getElementById("find-status").textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.record) showRecord(button.dataset.record);
  else if (button.dataset.cell) showCell(payload.cells[button.dataset.cell]);
  else if (button.classList.contains("sort")) sort(button);
});
document.addEventListener("change", (event) => {
  if (event.target.name === "filter") filterTables(event.target.value);
});
document.getElementById("find").addEventListener("input", (event) => filterCells(event.target.value.toLowerCase().split(/\s+/).filter(Boolean)));
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => {
  if (location.hash.startsWith("#record=")) history.replaceState(null, "", location.pathname);
});
window.addEventListener("beforeprint", () => document.querySelectorAll("#languages details").forEach((element) => (element.open = true)));
const openRecord = () => location.hash.startsWith("#record=") && showRecord(decodeURIComponent(location.hash.slice(8)));
window.addEventListener("hashchange", openRecord);
openRecord();
