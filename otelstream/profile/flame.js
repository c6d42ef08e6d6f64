"use strict";
// The data are columns: a frame stands after its caller and before what it calls, so that a subtree is a range of rows.
const data = JSON.parse(document.getElementById("data").textContent);
const [graph, detail, search] = ["graph", "detail", "search"].map(id => document.getElementById(id));
const ROW = 19, NARROWEST = 1, LABELLED = 24; // px
const GOLDEN_ANGLE = 137.508; // degrees between the colours of methods: neighbours differ whatever their number
const count = data.depth.length;
const changed = data.changes !== null;

// What is always so of each frame.
const text = row => data.strings[data.frames[data.frame[row]][0]];
const file = row => data.strings[data.frames[data.frame[row]][1]];
const line = row => data.frames[data.frame[row]][2];
const parent = new Int32Array(count).fill(-1), end = new Int32Array(count).fill(count), method = new Int32Array(count);
const methods = [];
for (let row = 0, path = []; row < count; row++) {
  const depth = data.depth[row];
  for (const ended of path.slice(depth)) end[ended] = row;
  path.length = depth;
  parent[row] = depth ? path[depth - 1] : -1;
  path[depth] = row;
  if (!depth) methods.push(row);
  method[row] = methods.length - 1;
}

// What is shown.
let type = data.shown, range = [0, 1], chosen = 0, total = 0;
let starts, widths, found = null;

function quantity(value) {
  const unit = data.types[type][1], size = Math.abs(value);
  const sign = value < 0 ? "-" : changed && value > 0 ? "+" : "";
  const fixed = (number, digits) => number.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  if (!value) return "0";
  if (unit === "bytes") {
    const power = size >= 2 ** 30 ? 3 : size >= 2 ** 20 ? 2 : 1;
    return sign + fixed(size / 1024 ** power, 1) + " " + ["KiB", "MiB", "GiB"][power - 1];
  }
  if (unit === "nanoseconds") return sign + (size >= 1e9 ? fixed(size / 1e9, 2) + " s" : fixed(size / 1e6, 1) + " ms");
  return sign + fixed(size, 0) + (unit === "count" || !unit ? "" : " " + unit);
}

const percent = (part, whole) => (whole ? 100 * part / whole : 0).toFixed(1) + " %";
const name = row => data.depth[row] ? text(row) : text(row) || "no method";
const place = row => file(row) && line(row) ? file(row) + ":" + line(row) : file(row);

function colour(element, row) {
  const value = data.values[type][row];
  const hue = changed ? (value < 0 ? 215 : 4) : 210 + method[row] * GOLDEN_ANGLE;
  const part = changed ? Math.abs(value) / (widths[row] || 1) : text(methods[method[row]]) ? 1 : 0;
  element.style.setProperty("--hue", hue % 360);
  element.style.setProperty("--strong", 62 * part + "%");
}

function layOut() {
  widths = (data.changes ?? data.values)[type];
  starts = new Float64Array(count);
  const next = [0];
  for (let row = 0; row < count; row++) {
    const depth = data.depth[row];
    starts[row] = next[depth];
    next[depth + 1] = next[depth];
    next[depth] += widths[row];
  }
  total = next[0];
  range = [0, total || 1];
}

function draw() {
  const scale = graph.clientWidth / (range[1] - range[0]);
  const shown = document.createDocumentFragment();
  let deepest = -1;
  for (let row = 0; row < count;) {
    const [left, right] = [starts[row], starts[row] + widths[row]].map(at => (Math.min(Math.max(at, range[0]), range[1]) - range[0]) * scale);
    if (right - left < NARROWEST) { row = end[row]; continue; }
    const depth = data.depth[row], box = document.createElement("div");
    box.className = "frame" + (right - left < LABELLED ? " narrow" : "") + (row === chosen ? " chosen" : "");
    if (found) box.classList.add(found[row] ? "found" : "dim");
    box.id = "frame" + row;
    box.setAttribute("role", "treeitem");
    box.setAttribute("aria-level", depth + 1);
    box.setAttribute("aria-selected", row === chosen);
    box.textContent = (name(row) + "  " + place(row)).trim();
    Object.assign(box.style, {left: left + "px", width: right - left + "px", top: depth * ROW + "px"});
    colour(box, row);
    shown.append(box);
    deepest = Math.max(deepest, depth);
    row++;
  }
  graph.style.height = (deepest + 1) * ROW + "px";
  graph.replaceChildren(shown);
  graph.setAttribute("aria-activedescendant", "frame" + chosen);
  for (const button of document.querySelectorAll("#methods button")) button.setAttribute("aria-pressed", isShownAlone(+button.dataset.row));
}

let asked = false;
function drawSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; draw(); });
}

const isShownAlone = row => methods.length > 1 && starts[row] <= range[0] && range[1] <= starts[row] + widths[row];

function show(from, to) {
  const width = Math.min(Math.max(to - from, total / 1e6), total) || 1;
  const start = Math.min(Math.max(from, 0), Math.max(total - width, 0));
  range = [start, start + width];
  drawSoon();
}

const showAll = () => show(0, total);
const showOnly = row => row < 0 ? showAll() : show(starts[row], starts[row] + widths[row]);

function zoom(factor, at) {
  show(at - (at - range[0]) * factor, at + (range[1] - at) * factor);
}

function describe(row) {
  if (!count) return;
  const value = data.values[type][row], own = data.own[type][row], whole = methods[method[row]];
  const shares = [percent(value, total) + (changed ? " of all that changed" : " of all")];
  if (row !== whole) shares.push(percent(value, widths[whole]) + " of " + name(whole));
  if (row !== whole) shares.push("itself " + quantity(own));
  detail.textContent = [name(row), place(row), quantity(value), ...shares].filter(Boolean).join(" · ");
}

function choose(row) {
  if (row < 0 || row >= count) return;
  chosen = row;
  const scale = graph.clientWidth / (range[1] - range[0]);
  const inside = starts[row] < range[1] && starts[row] + widths[row] > range[0];
  if (!inside || widths[row] * scale < NARROWEST) showOnly(widths[row] * graph.clientWidth < widths[parent[row]] * NARROWEST ? row : parent[row]);
  describe(row);
  drawSoon();
}

function sibling(row, step) {
  const from = parent[row] < 0 ? 0 : parent[row] + 1, to = parent[row] < 0 ? count : end[parent[row]];
  const all = [];
  for (let each = from; each < to; each = end[each]) all.push(each);
  return all[all.indexOf(row) + step] ?? row;
}

function look() {
  const wanted = search.value.trim().toLowerCase();
  found = null;
  document.getElementById("matches").textContent = "";
  if (wanted) {
    const frames = data.frames.map(([name, file]) => (data.strings[name] + " " + data.strings[file]).toLowerCase().includes(wanted));
    found = data.frame.map(frame => frames[frame]);
    let sum = 0, covered = 0;
    for (let row = 0; row < count;) {
      if (found[row]) { sum += data.values[type][row]; covered += widths[row]; }
      row = found[row] ? end[row] : row + 1;
    }
    document.getElementById("matches").textContent = quantity(sum) + ", " + percent(covered, total);
  }
  drawSoon();
}

function listMethods() {
  document.getElementById("methods").replaceChildren(...methods.map(row => {
    const item = document.createElement("li"), button = document.createElement("button"), swatch = document.createElement("span");
    swatch.className = "swatch";
    colour(swatch, row);
    button.type = "button";
    button.dataset.row = row;
    button.append(swatch, name(row) + " ", quantity(data.values[type][row]) + (changed ? "" : ", " + percent(widths[row], total)));
    button.onclick = () => isShownAlone(row) ? showAll() : (choose(row), showOnly(row));
    item.append(button);
    return item;
  }));
}

function change(to) {
  type = to;
  layOut();
  listMethods();
  look();
  describe(chosen);
}

const rowOf = event => event.target.classList.contains("frame") ? +event.target.id.slice("frame".length) : -1;
graph.addEventListener("mousemove", event => { if (rowOf(event) >= 0) describe(rowOf(event)); });
graph.addEventListener("mouseleave", () => describe(chosen));
graph.addEventListener("click", event => { const row = rowOf(event); if (row >= 0) { choose(row); showOnly(row); } });
graph.addEventListener("wheel", event => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const x = event.clientX - graph.getBoundingClientRect().left;
  zoom(1.2 ** Math.sign(event.deltaY), range[0] + x / graph.clientWidth * (range[1] - range[0]));
}, {passive: false});
const middle = () => Math.min(Math.max(starts[chosen] + widths[chosen] / 2, range[0]), range[1]);
const keys = {
  ArrowUp: () => choose(parent[chosen]),
  ArrowDown: () => { if (end[chosen] > chosen + 1) choose(chosen + 1); },
  ArrowLeft: () => choose(sibling(chosen, -1)),
  ArrowRight: () => choose(sibling(chosen, 1)),
  Enter: () => showOnly(chosen),
  " ": () => showOnly(chosen),
  "+": () => zoom(1 / 1.5, middle()),
  "-": () => zoom(1.5, middle()),
  0: showAll,
  Escape: showAll,
};
graph.addEventListener("keydown", event => {
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey || !count) return;
  event.preventDefault();
  keys[event.key]();
});
document.addEventListener("keydown", event => {
  if (event.key !== "/" || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  event.preventDefault();
  search.focus();
});
search.addEventListener("input", look);
document.getElementById("whole").onclick = showAll;
if (data.types.length > 1) {
  const label = document.getElementById("type"), select = label.querySelector("select");
  data.types.forEach(([kind], index) => select.append(new Option(kind, index, index === type, index === type)));
  select.onchange = () => change(+select.value);
  label.hidden = false;
}
if (!count) document.getElementById("note").textContent = "There is nothing in this profile.";
if (data.left_out) document.getElementById("note").textContent = `${data.left_out.toLocaleString("en")} small frames are left out.`;
change(type);
new ResizeObserver(drawSoon).observe(graph);
