"use strict";
for (const table of document.querySelectorAll("table[data-name]")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, place) => row.cells[place].dataset.value ?? "";
  const text = (row, place) => row.cells[place].textContent.trim();
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const number = head.classList.contains("num"), now = head.getAttribute("aria-sort");
      const up = number ? now === "descending" : now !== "ascending"; // figures from the largest, words from A
      const rows = [...body.rows].sort((one, other) => {
        if (!number) return text(one, place).localeCompare(text(other, place));
        const a = value(one, place), b = value(other, place);
        if (a === "" || b === "") return (a === "") - (b === "") || 0; // what is unknown stays at the end
        return (a - b) * (up ? 1 : -1);
      });
      if (!number && !up) rows.reverse();
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    });
  });
  document.querySelector(`button[data-csv="${table.dataset.name}"]`).addEventListener("click", () => {
    const quoted = (field) => {
      const risky = /^[=+@\t\r-]/.test(field) && Number.isNaN(Number(field)); // a spreadsheet would compute it
      return `"${(risky ? "'" : "") + field.replaceAll('"', '""')}"`;
    };
    const lines = [heads.map((head) => head.textContent.trim())];
    for (const row of body.rows) lines.push([...row.cells].map((cell) => cell.dataset.value ?? cell.textContent.trim()));
    const file = new Blob(["\ufeff", lines.map((line) => line.map(quoted).join(",")).join("\r\n"), "\r\n"], { type: "text/csv" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${document.body.dataset.run}-${table.dataset.name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
document.querySelector("#theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
});
document.body.dataset.ready = "yes";
