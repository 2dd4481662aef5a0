// Tables that a reader can sort: each heading becomes a button, for mouse, keyboard and touch.
function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const said = document.createElement("p"); // read out by a screen reader, seen by nobody
  said.className = "visually-hidden";
  said.setAttribute("role", "status");
  table.after(said);

  // A cell's number, its text, or null where nothing is known.
  const value = (row, column) => {
    const { sort } = row.cells[column].dataset;
    if (sort === undefined) return row.cells[column].textContent.trim();
    return sort === "" ? null : Number(sort);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), document.documentElement.lang, { numeric: true });

  const sort = (column) => {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    const rows = [...body.rows].map((row) => ({ row, key: value(row, column) }));
    const [there, missing] = [rows.filter((r) => r.key !== null), rows.filter((r) => r.key === null)];
    there.sort((a, b) => (up ? 1 : -1) * compare(a.key, b.key));
    body.append(...[...there, ...missing].map((r) => r.row));
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    said.textContent = `Sorted by ${heads[column].textContent}, ${up ? "ascending" : "descending"}.`;
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(column));
    head.append(button);
  });
}

document.addEventListener("DOMContentLoaded", () =>
  document.querySelectorAll("table.ilsvrc-sortable").forEach(makeSortable)
);
