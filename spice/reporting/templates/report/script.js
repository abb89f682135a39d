"use strict";
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

// ---- light and dark

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.dispatchEvent(new Event("theme"));
}
$("#theme").addEventListener("click", toggleTheme);

// ---- tables that sort and search

function compared(a, b) {
  const x = Number(a), y = Number(b);
  const numbers = a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y);
  return numbers ? x - y : a.localeCompare(b, "en", { numeric: true });
}

function sortTable(head) {
  const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
  const rising = head.getAttribute("aria-sort") !== "ascending";
  $$("th", table).forEach((th) => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...body.rows].sort((a, b) => compared(a.cells[column].dataset.sort, b.cells[column].dataset.sort));
  body.append(...(rising ? rows : rows.reverse()));
}

function searchTable(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of $("table", input.closest(".table")).tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
}

$$("table.sortable th").forEach((th) => $("button", th).addEventListener("click", () => sortTable(th)));
$$("input.search").forEach((input) => input.addEventListener("input", () => searchTable(input)));

// ---- the rows of the pool

const PAGE = 25;
const ROLES = { s: "system", u: "user", a: "assistant" };
const state = { data: null, run: 0, found: [], at: 0, sort: "order", rising: true, open: -1, order: [], gain: [], conflict: [] };

async function unpacked(element) {
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function chooseRun(number) {
  const { data } = state, run = data.runs[number];
  state.run = number;
  state.order = new Array(data.id.length).fill(null);
  state.gain = data.leftOf === number && data.left ? [...data.left] : new Array(data.id.length).fill(null);
  state.conflict = new Array(data.id.length).fill(null);
  run.picks.forEach((row, i) => {
    state.order[row] = run.order[i];
    state.gain[row] = run.gains ? run.gains[i] : null;
    if (run.conflicts) state.conflict[row] = run.conflicts[i];
  });
  const left = data.leftOf === number && data.left;
  $("#gain-note").textContent = !run.gains ? "" : run.greedy
    ? `Gain, in nats: of a pick what it added when it was picked${left ? "; of any other row what it would still add behind the last pick" : ""}.`
    : "Gain: what the method ranked each pick by.";
}

function columns() {
  const { data } = state, some = (values) => values.some((v) => v !== null);
  return [
    { key: "order", name: "pick", of: (i) => state.order[i] },
    { key: "source", name: "source", of: (i) => data.sources[data.source[i]], text: true, when: data.sources.length > 1 },
    { key: "length", name: data.unit, of: (i) => data.length[i] },
    { key: "weight", name: "reliability", of: (i) => data.weight[i], when: data.weight !== null },
    { key: "gain", name: "gain", of: (i) => state.gain[i], when: some(state.gain) },
    { key: "conflict", name: "conflict", of: (i) => state.conflict[i], when: state.conflict.some((v) => v) },
  ].filter((column) => column.when !== false); // a column that says nothing is left out
}

function bounds(form, name) {
  return ["low", "high"].map((end) => {
    const text = form.elements[`${name}-${end}`].value.trim().replace(",", ".");
    return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
  });
}

function within(value, [low, high]) {
  if (low === null && high === null) return true;
  return value !== null && (low === null || value >= low) && (high === null || value <= high);
}

function filterRows() {
  const { data } = state, form = $("#filters");
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { chosen, source } = Object.fromEntries(new FormData(form));
  const limits = Object.fromEntries(["length", "weight", "gain"].map((name) => [name, bounds(form, name)]));
  state.found = data.id.map((_, i) => i).filter((i) =>
    (chosen === "" || (state.order[i] !== null) === (chosen === "yes")) &&
    (source === "" || data.source[i] === Number(source)) &&
    within(data.length[i], limits.length) &&
    within(data.weight && data.weight[i], limits.weight) &&
    within(state.gain[i], limits.gain) &&
    words.every((word) => data.lower[i].includes(word)));
  state.at = 0;
  sortRows();
}

function sortRows() {
  const column = columns().find((c) => c.key === state.sort) || columns()[0], sign = state.rising ? 1 : -1;
  state.found.sort((a, b) => {
    const x = column.of(a), y = column.of(b);
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // what has none comes last
    return sign * (column.text ? x.localeCompare(y) : x - y) || a - b;
  });
  showRows();
}

function told(value) {
  return typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(3) : value === null ? "–" : String(value);
}

function showRows() {
  const { data, found, at } = state, list = $("#list"), shown = columns();
  const head = made("tr");
  for (const column of shown) {
    const th = made("th", undefined, column.text ? "" : "num"), button = made("button", column.name);
    button.type = "button";
    button.addEventListener("click", () => {
      state.rising = state.sort === column.key ? !state.rising : column.key === "order" || Boolean(column.text);
      state.sort = column.key;
      sortRows();
    });
    if (state.sort === column.key) th.setAttribute("aria-sort", state.rising ? "ascending" : "descending");
    th.append(button);
    head.append(th);
  }
  head.append(made("th", "text"));
  list.tHead.replaceChildren(head);
  list.tBodies[0].replaceChildren(...found.slice(at, at + PAGE).map((i, place) => rowLine(i, at + place, shown)));
  const picks = found.filter((i) => state.order[i] !== null).length;
  const count = `${found.length.toLocaleString("en")} of ${data.id.length.toLocaleString("en")} rows, ${picks.toLocaleString("en")} of them chosen `;
  $("#found").replaceChildren(count, source(data.runs[state.run].file));
  $("#page").textContent = found.length ? `${at + 1}–${Math.min(at + PAGE, found.length)}` : "nothing found";
  $("#back").disabled = at === 0;
  $("#on").disabled = at + PAGE >= found.length;
}

function source(file) {
  const link = made("a", file || "", "from");
  if (file) link.href = file;
  return link;
}

function rowLine(i, place, shown) {
  const line = made("tr");
  line.tabIndex = 0;
  for (const column of shown) {
    const name = column.key === "order" ? "num order" : column.text ? "" : "num";
    line.append(made("td", told(column.of(i)), name));
  }
  const cell = made("td");
  cell.append(made("div", state.data.turns[i].filter((turn) => turn[0] !== "s").map((turn) => turn.slice(1, 400)).join("  →  "), "text"));
  line.append(cell);
  line.addEventListener("click", () => openRow(i, place));
  line.addEventListener("keydown", (event) => event.key === "Enter" && openRow(i, place));
  return line;
}

function openRow(i, place = state.found.indexOf(i)) {
  const { data } = state;
  state.open = place;
  const facts = columns().filter((c) => c.of(i) !== null).map((c) => `${c.name} ${told(c.of(i))}`);
  if (state.order[i] === null) facts.unshift("not chosen");
  if (data.support) facts.push(`support ${told(data.support[i])}`, `opposition ${told(data.opposition[i])}`);
  $("#row-facts").textContent = [...facts, `row ${data.position[i]}`, data.id[i]].join(" · ");
  $("#row-text").replaceChildren(...data.turns[i].map((turn) => {
    const part = made("div", undefined, `turn ${turn[0]}`);
    part.append(made("h4", ROLES[turn[0]] || turn[0]), made("pre", turn.slice(1)));
    return part;
  }));
  $("#row-back").disabled = place <= 0;
  $("#row-on").disabled = place < 0 || place + 1 >= state.found.length;
  if (!$("#row").open) $("#row").showModal();
  $("#row").scrollTop = 0;
}

function listenToRows() {
  const form = $("#filters"), dialog = $("#row");
  form.addEventListener("input", () => {
    if (Number(form.elements.run.value) !== state.run) chooseRun(Number(form.elements.run.value));
    filterRows();
    drawMap();
  });
  form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("input"))));
  form.addEventListener("submit", (event) => event.preventDefault());
  $("#back").addEventListener("click", () => { state.at -= PAGE; showRows(); });
  $("#on").addEventListener("click", () => { state.at += PAGE; showRows(); });
  $("#row-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  $("#row-back").addEventListener("click", () => openRow(state.found[state.open - 1], state.open - 1));
  $("#row-on").addEventListener("click", () => openRow(state.found[state.open + 1], state.open + 1));
}

function fillFilters() {
  const { data } = state, form = $("#filters");
  data.runs.forEach((run, i) => form.elements.run.append(new Option(`${run.name} (${run.k})`, i)));
  $("label.run").hidden = data.runs.length < 2;
  data.sources.forEach((name, i) => form.elements.source.append(new Option(name, i)));
  form.elements.source.closest("label").hidden = data.sources.length < 2;
  $("[data-needs=weight]").hidden = !data.weight;
  const first = data.leftOf !== null ? data.leftOf : data.runs.findIndex((run) => run.k > 0);
  form.elements.run.value = String(Math.max(first, 0));
  chooseRun(Math.max(first, 0));
}

// ---- the map

const map = { points: [], scale: 1 };

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function place(canvas) {
  const { data } = state, wide = canvas.clientWidth, tall = canvas.clientHeight, edge = 18;
  const there = data.x.map((_, i) => i).filter((i) => data.x[i] !== null);
  const ends = (values) => there.reduce(([low, high], i) => [Math.min(low, values[i]), Math.max(high, values[i])], [Infinity, -Infinity]);
  const [left, right] = ends(data.x), [low, high] = ends(data.y);
  const fit = (v, a, b, size) => edge + ((v - a) / (b - a || 1)) * (size - 2 * edge);
  map.points = there.map((i) => [fit(data.x[i], left, right, wide), tall - fit(data.y[i], low, high, tall), i]);
  map.scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(wide * map.scale);
  canvas.height = Math.round(tall * map.scale);
}

function colouring() {
  const { data } = state, by = $("#colouring").value, pool = colourOf("--pool");
  if (by === "source") {
    const colours = Array.from({ length: 8 }, (_, i) => colourOf(`--c${i}`));
    return (i) => colours[data.source[i] % 8];
  }
  if (by === "weight" && data.weight) {
    const full = colourOf("--c1");
    return (i) => (data.weight[i] > 0 ? `color-mix(in srgb, ${full} ${Math.round(Math.min(1, data.weight[i] / 1.5) * 100)}%, ${pool})` : pool);
  }
  return () => pool;
}

function drawMap(near = -1) {
  const canvas = $("#canvas");
  if (!canvas || !state.data || !state.data.x) return;
  place(canvas);
  const pen = canvas.getContext("2d"), accent = colourOf("--accent"), edge = colourOf("--card"), colour = colouring();
  pen.setTransform(map.scale, 0, 0, map.scale, 0, 0);
  const dot = (x, y, r, fill, line) => {
    pen.beginPath();
    pen.arc(x, y, r, 0, 2 * Math.PI);
    pen.fillStyle = fill;
    pen.fill();
    if (line) { pen.strokeStyle = line; pen.lineWidth = 1.2; pen.stroke(); }
  };
  const small = (map.points.length > 2000 ? 2.2 : 3.2) * (canvas.clientWidth < 600 ? 0.7 : 1);
  const picked = ([, , i]) => state.order[i] !== null;
  pen.globalAlpha = 0.75;
  map.points.filter((p) => !picked(p)).forEach(([x, y, i]) => dot(x, y, small, colour(i)));
  pen.globalAlpha = 1;
  map.points.filter(picked).forEach(([x, y, i]) => dot(x, y, small + 1.6, $("#colouring").value ? colour(i) : accent, $("#colouring").value ? colourOf("--ink") : edge));
  const at = map.points.find(([, , i]) => i === near);
  if (at) dot(at[0], at[1], 7, "transparent", colourOf("--ink"));
}

function nearest(event, canvas) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = 20 * 20;
  for (const point of map.points) {
    const far = (point[0] - x) ** 2 + (point[1] - y) ** 2 - (state.order[point[2]] !== null ? 9 : 0); // picks lie on top
    if (far < least) [best, least] = [point, far];
  }
  return best;
}

function pointAt(event) {
  const canvas = $("#canvas"), tip = $("#tip"), found = nearest(event, canvas);
  tip.hidden = !found;
  drawMap(found ? found[2] : -1);
  if (!found) return;
  const [x, y, i] = found, { data } = state, order = state.order[i];
  const last = data.turns[i].filter((turn) => turn[0] === "u").pop() || data.turns[i][0];
  const words = last.slice(1, 141) + (last.length > 141 ? " …" : "");
  tip.textContent = `${order !== null ? `pick ${order} · ` : ""}${data.sources[data.source[i]]} · ${words}`;
  tip.style.left = `${Math.max(4, Math.min(x + 14, canvas.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 14 + tip.offsetHeight > canvas.clientHeight ? y - tip.offsetHeight - 12 : y + 14}px`;
}

function colourMap() {
  const { data } = state, bySource = $("#colouring").value === "source";
  $("#sources").replaceChildren(...(bySource ? data.sources : []).map((name, i) => {
    const entry = made("span", name);
    entry.prepend(made("i", undefined, `key c-${i % 8}`));
    return entry;
  }));
  $("#map .key.picked").classList.toggle("ring", $("#colouring").value !== "");
  drawMap();
}

function listenToMap() {
  const canvas = $("#canvas");
  if (!canvas) return;
  $$("#colouring option").filter((o) => (o.value === "weight" && !state.data.weight) || (o.value === "source" && state.data.sources.length < 2)).forEach((o) => o.remove());
  canvas.addEventListener("mousemove", pointAt);
  canvas.addEventListener("mouseleave", () => { $("#tip").hidden = true; drawMap(); });
  canvas.addEventListener("click", (event) => {
    const found = nearest(event, canvas);
    if (found) { $("#tip").hidden = true; openRow(found[2]); }
  });
  $("#colouring").addEventListener("change", colourMap);
  new ResizeObserver(() => drawMap()).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawMap());
  document.addEventListener("theme", () => drawMap());
}

async function begin() {
  const packed = $("#pool-rows");
  if (!packed) return;
  if (!("DecompressionStream" in window)) {
    $("#found").textContent = "This browser is too old to unpack the rows; one of 2023 or later can.";
    return;
  }
  state.data = await unpacked(packed);
  state.data.lower = state.data.turns.map((turns) => turns.join("\n").toLowerCase());
  fillFilters();
  listenToRows();
  listenToMap();
  filterRows();
  drawMap();
  document.documentElement.dataset.ready = "yes";
}
begin();
