// Sorts and filters the table of trials. Without JavaScript, all rows are visible, the best first.
(() => {
  const section = document.getElementById("trials");
  const tables = [...section.querySelectorAll("table")];
  const room = tables[0].tBodies[0].rows.length;
  const best = tables.flatMap((table) => [...table.tBodies[0].rows]);
  let rows = best;

  const filter = document.createElement("input");
  filter.type = "search";
  filter.className = "filter";
  filter.placeholder = "Filter: t0007, stopped, 0.01";
  filter.setAttribute("aria-label", "Filter the trials by any text in their rows");

  const text = (row, column) => row.cells[column].textContent.trim();

  function place() {
    const words = filter.value.toLowerCase().split(/\s+/);
    const has = (row) => words.every((word) => row.textContent.toLowerCase().includes(word));
    const shown = rows.filter(has);
    for (const row of best) row.hidden = true;
    for (const [number, row] of shown.entries()) {
      row.hidden = false;
      tables[number < room ? 0 : 1].tBodies[0].append(row);
    }
    if (tables[1]) {
      tables[1].closest("details").hidden = shown.length <= room;
      section.querySelector("summary").textContent = `${shown.length - room} more`;
    }
  }

  function sort(column, down) {
    const compare = (one, other) => {
      const [a, b] = [text(one, column), text(other, column)];
      if (!a || !b) return !a - !b;
      const [x, y] = [parseFloat(a), parseFloat(b)];
      const order = isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
      return down ? -order : order;
    };
    rows = [...best].sort(compare);
    for (const table of tables) {
      for (const [number, head] of [...table.tHead.rows[0].cells].entries()) {
        if (number === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
    }
    place();
  }

  for (const table of tables) {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.onclick = () => sort(column, head.getAttribute("aria-sort") === "ascending");
      head.append(button);
    }
  }
  filter.oninput = place;
  section.querySelector("h2").after(filter);
})();
