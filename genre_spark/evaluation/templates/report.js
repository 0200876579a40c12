"use strict";
// What a cell of a confusion matrix says, where the reader points or goes with the arrow keys.
const tip = document.getElementById("tip");
let current = null;
function show(cell) {
  current = cell;
  const row = cell.parentElement, heads = cell.closest("table").tHead.rows[0].cells;
  const truth = row.cells[0].dataset.name, answer = heads[cell.cellIndex].dataset.name;
  const count = Number(cell.dataset.n), of = Number(row.dataset.n);
  const said = truth === answer && !("others" in row.dataset) ? `${truth} named rightly` : `true ${truth} taken for ${answer}`;
  const share = of ? ` (${(100 * count / of).toFixed(1)} %)` : "";
  tip.textContent = `${said}: ${count.toLocaleString("en")} of ${of.toLocaleString("en")}${share}`;
  tip.hidden = false;
  const at = cell.getBoundingClientRect(), box = tip.getBoundingClientRect();
  const wide = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(4, Math.min(at.left + at.width / 2 - box.width / 2, wide - box.width - 4))}px`;
  tip.style.top = `${at.top > box.height + 6 ? at.top - box.height - 6 : at.bottom + 6}px`;
}
function hide() {
  current = null;
  tip.hidden = true;
}
function cellOf(event) { return event.target instanceof Element ? event.target.closest("table.heat td[data-n]") : null; }
function go(from, down, right) {
  const rows = from.closest("tbody").rows, row = rows[from.parentElement.sectionRowIndex + down];
  const to = row && row.cells[from.cellIndex + right];
  if (!to || !("n" in to.dataset)) return;
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}
const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
document.addEventListener("pointerover", event => { const cell = cellOf(event); cell ? show(cell) : hide(); });
document.addEventListener("focusin", event => { const cell = cellOf(event); cell ? show(cell) : hide(); });
document.addEventListener("scroll", () => { if (current) show(current); }, { capture: true, passive: true });
document.addEventListener("keydown", event => {
  if (event.key === "Escape") hide();
  const cell = cellOf(event);
  if (!cell || !steps[event.key]) return;
  event.preventDefault();
  go(cell, ...steps[event.key]);
});
// Rows and columns go into the same order, so that the diagonal stays what is right; the row of the others stays last.
const orders = {
  name: () => 0,
  tracks: (a, b) => b.dataset.n - a.dataset.n,
  recall: (a, b) => b.dataset.recall - a.dataset.recall,
};
for (const table of document.querySelectorAll("table.heat")) {
  const lines = [table.tHead.rows[0], ...table.tBodies[0].rows].map(row => ({ row, cells: [...row.cells] }));
  const genres = lines.slice(1).filter(line => !("others" in line.row.dataset));
  const first = genres[0] && genres[0].cells[1];
  for (const { cells } of genres) for (const cell of cells) if ("n" in cell.dataset) cell.tabIndex = -1;
  if (first) first.tabIndex = 0;
  const bar = table.closest("figure").querySelector(".sort");
  bar.hidden = genres.length < 2;
  bar.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button) return;
    const order = orders[button.dataset.by];
    const places = genres.map((_, place) => place).sort((a, b) => order(genres[a].row, genres[b].row) || a - b);
    for (const place of places) table.tBodies[0].append(genres[place].row);
    for (const { row } of lines) if ("others" in row.dataset) table.tBodies[0].append(row);
    for (const { row, cells } of lines) {
      for (const place of places) row.append(cells[place + 1]);
      row.append(...cells.slice(genres.length + 1));
    }
    for (const each of bar.querySelectorAll("button")) each.setAttribute("aria-pressed", each === button);
  });
}
// One track at a time.
document.addEventListener("play", event => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, { capture: true });
// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
