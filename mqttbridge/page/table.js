// Tables that stay tables for a screen reader when a narrow screen shows each row as a block.

import { h } from "./dom.js";

/** Make a table with these columns (`{label, end}`) and an empty body. */
export function table(caption, columns, { wide = true } = {}) {
  const body = h("tbody", { role: "rowgroup" });
  const heads = columns.map(({ label, end }) => h("th", { scope: "col", role: "columnheader", class: end ? "end" : null }, label));
  const node = h("table", { role: "table", class: wide ? "wide" : null },
    h("caption", { class: "hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
    body);
  return { node, body };
}

/** Make a row; each cell stands under the column of the same place. */
export function row(columns, cells) {
  return h("tr", { role: "row" }, cells.map((cell, place) => {
    const { label, end, nowrap } = columns[place];
    const blank = cell === null || cell === "";
    const names = [end && "end", nowrap && "nowrap", blank && "blank"].filter(Boolean).join(" ");
    return h("td", { role: "cell", class: names || null, "data-label": label }, blank ? null : cell);
  }));
}
