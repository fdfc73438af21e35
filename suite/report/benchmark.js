// Curves and profiles are drawn from the data that the page carries.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 720, height: 300, left: 62, right: 12, top: 10, bottom: 36 };

const node = (name, attributes = {}, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
};
const element = (name, className = "", text = "") => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

// A scale from [low, high] to pixels, and what to write along it.
const nice = (span) => {
  const power = 10 ** Math.floor(Math.log10(span / 5));
  return power * [1, 2, 5, 10].find((step) => span / (power * step) <= 6);
};
const linear = (low, high, from, to) => {
  const step = nice(high - low || 1);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return { at: (x) => from + ((x - low) / (high - low || 1)) * (to - from), ticks };
};
const logarithmic = (low, high, from, to) => {
  const [bottom, top] = [Math.log10(low), Math.log10(high)];
  const inner = top - bottom > 4 ? [1] : top - bottom > 2 ? [1, 3] : top - bottom > 0.7 ? [1, 2, 5] : [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
  let ticks = [];
  for (let power = Math.floor(bottom); power <= top; power++)
    for (const digit of inner) {
      const tick = digit * 10 ** power;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  // A range between two of these has round numbers, with as many digits as losses have here.
  if (ticks.length < 2) ticks = [...new Set(linear(low, high, from, to).ticks.map(rounded))];
  const every = Math.ceil(ticks.length / 8);
  const { at } = linear(bottom, top, from, to);
  return { at: (x) => at(Math.log10(x)), ticks: ticks.filter((_, i) => i % every === 0) };
};
const rounded = (x) => Number(x.toPrecision(3));
const written = (x) => (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? rounded(x).toExponential() : String(rounded(x)));

// Axes with their names; lines are put into it.
const frame = (xs, ys, label, names) => {
  const svg = node("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": label });
  const bottom = BOX.height - BOX.bottom;
  for (const tick of xs.ticks) {
    svg.append(node("path", { class: "axis", d: `M${xs.at(tick)},${bottom}v5` }));
    svg.append(node("text", { x: xs.at(tick), y: bottom + 18, "text-anchor": "middle" }, written(tick)));
  }
  for (const tick of ys.ticks) {
    svg.append(node("path", { class: "axis", d: `M${BOX.left},${ys.at(tick)}H${BOX.width - BOX.right}` }));
    svg.append(node("text", { x: BOX.left - 8, y: ys.at(tick) + 4, "text-anchor": "end" }, written(tick)));
  }
  svg.append(node("text", { x: (BOX.left + BOX.width) / 2, y: BOX.height - 3, "text-anchor": "middle" }, names[0]));
  const turned = `translate(13 ${bottom / 2}) rotate(-90)`;
  svg.append(node("text", { transform: turned, "text-anchor": "middle" }, names[1]));
  return svg;
};
const line = (svg, points, kind, title) => {
  const path = node("path", { class: kind, d: points.length ? `M${points.map((p) => p.map((x) => x.toFixed(1))).join("L")}` : "" });
  if (title) path.append(node("title", {}, title));
  svg.append(path);
};
const legend = (entries) => {
  const key = element("div", "key chart");
  for (const [kind, text] of entries) {
    const entry = element("span", "", text);
    const sample = node("svg", { viewBox: "0 0 36 12", "aria-hidden": "true" });
    sample.append(node("path", { class: kind, d: "M0,6H36" }));
    entry.prepend(sample);
    key.append(entry);
  }
  return key;
};
// The one that is followed comes last, over the others.
const kindOf = (label, own) => (label === own ? "own" : label === data.adam ? "adam" : "other");
const inOrder = (labels, own) => {
  const order = ["other", "adam", "own"];
  return [...labels].sort((a, b) => order.indexOf(kindOf(a, own)) - order.indexOf(kindOf(b, own)));
};
const entriesOf = (labels, own, extra = []) => [
  ["own", own],
  ...(labels.includes(data.adam) && own !== data.adam ? [["adam", data.adam]] : []),
  ["other", "the others"],
  ...extra,
];

// Mean losses of all optimizers, over the steps from the one with the index `from`.
const curves = ({ title, steps, curves: means, target = null }, own, name, from) => {
  const all = Object.values(means).flatMap(([mean]) => mean.slice(from)).filter((y) => y !== null);
  let [low, high] = [Math.min(...all), Math.max(...all)];
  if (low === high) [low, high] = [low - Math.abs(low || 1), high + Math.abs(high || 1)];
  const heights = [BOX.height - BOX.bottom, BOX.top];
  const ys = low > 0 ? logarithmic(low, high, ...heights) : linear(low, high, ...heights);
  const clamp = (y) => Math.min(heights[0], Math.max(heights[1], ys.at(low > 0 ? Math.max(y, low / 10) : y)));
  const xs = linear(0, steps.at(-1), BOX.left, BOX.width - BOX.right);
  const points = (values) =>
    values.map((y, i) => (y === null || i < from ? null : [xs.at(steps[i]), clamp(y)])).filter(Boolean);
  const svg = frame(xs, ys, `${title}: ${name}; ${own} is highlighted`, ["updates", name]);
  const [, bottom, top] = means[own];
  line(svg, [...points(bottom), ...points(top).reverse()], "band");
  if (target !== null && target >= low && target <= high)
    line(svg, [[BOX.left, ys.at(target)], [BOX.width - BOX.right, ys.at(target)]], "target", "target");
  const labels = Object.keys(means);
  for (const label of inOrder(labels, own)) line(svg, points(means[label][0]), kindOf(label, own), label);
  const chart = element("div", "chart");
  chart.append(svg);
  return chart;
};
const charts = (problem, own) => {
  const from = problem.steps.findIndex((step) => step >= 1);
  const drawn = [curves(problem, own, "mean loss", from)];
  const { title, held_out: apart } = problem;
  // Merged results may lack some.
  if (apart && own in apart.curves) drawn.push(curves({ title, ...apart }, own, "mean held-out loss", 0));
  return [...drawn, legend(entriesOf(Object.keys(problem.curves), own, [["target", "target"]]))];
};

const profiles = (own) => {
  const xs = linear(1, 4, BOX.left, BOX.width - BOX.right);
  const ys = linear(0, 1, BOX.height - BOX.bottom, BOX.top);
  const svg = frame(xs, ys, `Performance profiles; ${own} is highlighted`, ["τ, updates over those of the best", "share of problems"]);
  const labels = Object.keys(data.ratios);
  for (const label of inOrder(labels, own)) {
    const ratios = data.ratios[label];
    const reached = ratios.filter((ratio) => ratio !== null && ratio <= 4).sort((a, b) => a - b);
    let share = 0;
    const points = [[1, 0]];
    for (const ratio of reached) {
      points.push([ratio, share]);
      share += 1 / ratios.length;
      points.push([ratio, share]);
    }
    points.push([4, share]);
    line(svg, points.map(([x, y]) => [xs.at(x), ys.at(y)]), kindOf(label, own), label);
  }
  document.getElementById("profiles").replaceChildren(svg, legend(entriesOf(labels, own)));
};

const columnOf = (table, name) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === name);
const named = (cell) => {
  const button = element("button", "", cell.textContent);
  button.type = "button";
  cell.replaceChildren(button);
  return button;
};

// Intervals stand below their numbers.
for (const cell of document.querySelectorAll("#table-overall td, #table-rows td")) {
  const place = cell.textContent.indexOf("[");
  if (!("value" in cell.dataset) || place < 1) continue;
  const [value, interval] = [cell.textContent.slice(0, place).trim(), cell.textContent.slice(place)];
  cell.replaceChildren(`${value} `, element("span", "interval", interval));
}

const overall = document.getElementById("table-overall");
const followers = [...overall.tBodies[0].rows].map((row) => {
  const label = row.cells[columnOf(overall, "Optimizer")].textContent;
  return [label, named(row.cells[columnOf(overall, "Optimizer")])];
});
const follow = (own) => {
  for (const [label, button] of followers) button.setAttribute("aria-pressed", label === own);
  profiles(own);
};
for (const [label, button] of followers) button.addEventListener("click", () => follow(label));
follow(data.best);

// A row's curve and origin open below it, and close before rows are sorted or filtered.
const table = document.getElementById("table-rows");
const rows = [...table.tBodies[0].rows];
const close = (button) => {
  button.setAttribute("aria-expanded", "false");
  const next = button.closest("tr").nextElementSibling;
  if (next?.classList.contains("detail")) next.remove();
};
const openers = rows.map((row, place) => {
  const button = named(row.cells[columnOf(table, "Optimizer")]);
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-expanded") === "true") return close(button);
    button.setAttribute("aria-expanded", "true");
    const { problem, optimizer, ...origin } = data.rows[place];
    const detail = element("tr", "detail");
    const cell = detail.insertCell();
    cell.colSpan = row.cells.length;
    const inner = element("div");
    const facts = element("dl");
    for (const [name, text] of Object.entries(origin)) facts.append(element("dt", "", name), element("dd", "", text || "unknown"));
    inner.append(...charts(data.problems[problem], optimizer), facts);
    cell.append(inner);
    row.after(detail);
  });
  return button;
});
const closeAll = () => openers.forEach(close);
table.tHead.addEventListener("click", closeAll, true);

// A row stays if it has every chosen value.
const choices = document.querySelector("[data-choices=rows]");
const selects = [...choices.querySelectorAll("select")];
const valueOf = (row, select) => row.cells[columnOf(table, select.dataset.column)].textContent.trim();
for (const select of selects) {
  const values = new Set(rows.map((row) => valueOf(row, select)).filter(Boolean));
  for (const value of values) select.append(new Option(value, value));
  select.addEventListener("change", () => {
    closeAll();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !selects.every((each) => !each.value || valueOf(row, each) === each.value);
      shown += row.hidden ? 0 : 1;
    }
    choices.querySelector("output").textContent = selects.some((each) => each.value) ? `${shown} of ${rows.length} rows` : "";
  });
}
