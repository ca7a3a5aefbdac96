"use strict";
// Columns of these tables sort by a click on their heads: numbers by value, the rest by text.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : head.classList.contains("text");
      const value = (row) => {
        const text = row.cells[column].textContent.trim();
        const number = Number.parseFloat(text.replaceAll(",", ""));
        return Number.isNaN(number) || head.classList.contains("text") ? text : number;
      };
      const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort((a, b) => (rising ? compare(a[0], b[0]) : compare(b[0], a[0])));
      body.append(...rows.map((r) => r[1]));
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    });
  });
}
// On paper everything is open.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
// A link to a class opens its samples.
const open = () => document.querySelector(`details[id="${CSS.escape(location.hash.slice(1))}"]`)?.setAttribute("open", "");
addEventListener("hashchange", open);
open();
