// Long tables can be sorted and searched. Without scripts they stand as they are, in the order that says most.
(() => {
  "use strict";
  const own = cell => (cell.querySelector(".good, .bad") || cell).textContent.trim().replaceAll("\u2212", "-").replaceAll(",", "");
  const value = cell => { const n = parseFloat(own(cell)); return Number.isNaN(n) ? null : n; };
  const words = new Intl.Collator(undefined, { numeric: true });

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rows = [...body.rows], cell = row => row.cells[column];
        const known = rows.filter(row => !["", "\u2013"].includes(own(cell(row))));
        const figures = known.length > 0 && known.every(row => value(cell(row)) !== null);
        const up = head.ariaSort ? head.ariaSort === "descending" : !figures;
        known.sort((a, b) => (up ? 1 : -1) * (figures
          ? value(cell(a)) - value(cell(b)) : words.compare(own(cell(a)), own(cell(b)))));
        body.append(...known, ...rows.filter(row => !known.includes(row)));
        heads.forEach(each => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
      });
    });
  }

  function searchable(table) {
    const rows = [...table.tBodies[0].rows], place = table.closest(".scroll") || table;
    if (rows.length < 12) return;
    const label = document.createElement("label"), input = document.createElement("input");
    const count = document.createElement("output");
    label.className = "filter";
    input.type = "search";
    label.append("Show rows with ", input, count);
    place.before(label);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      const left = rows.filter(row => !row.hidden).length;
      count.textContent = wanted ? `${left} of ${rows.length}` : "";
    });
  }

  for (const table of document.querySelectorAll("table.long")) { sortable(table); searchable(table); }
})();
