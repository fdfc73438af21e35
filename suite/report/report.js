"use strict";

// Theme: the system's, until the button is pressed; the choice is kept where storage is allowed.
const root = document.documentElement;
const remembered = (value) => {
  try {
    if (value) localStorage.setItem("theme", value);
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
};
const dark = () =>
  (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const saved = remembered();
if (saved === "light" || saved === "dark") root.dataset.theme = saved;
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  remembered(root.dataset.theme);
});

// Sorting: numbers by value, all else as a person would; what is empty stays at the end.
const key = (row, column) => {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim();
  const text = cell.dataset.value;
  if (text === "inf" || text === "-inf") return text === "inf" ? Infinity : -Infinity;
  return Number(text);
};
const empty = (value) => value === "" || Number.isNaN(value);
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number"
    ? (a > b) - (a < b)
    : String(a).localeCompare(String(b), undefined, { numeric: true });

for (const table of document.querySelectorAll("table")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.setAttribute("aria-sort", "none");
    header.querySelector("button").addEventListener("click", () => {
      const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      headers.forEach((other) => other.setAttribute("aria-sort", other === header ? direction : "none"));
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((first, second) => {
        const a = key(first, column);
        const b = key(second, column);
        if (empty(a) || empty(b)) return empty(a) - empty(b);
        return direction === "ascending" ? compare(a, b) : compare(b, a);
      });
      body.append(...rows);
    });
  });
}

// Filtering: a row stays if it has all the words.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.getElementById(`table-${input.dataset.filter}`).tBodies[0].rows];
  const count = input.parentElement.querySelector("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ");
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}
