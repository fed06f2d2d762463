// Folders by expression

function crossTable() {
  const by = at("confusion-rows").value;
  const groups = by === "folder" ? data.folder : data.columns[by];
  const columns = range(data.expression.names.length).filter((code) => data.expression.names[code] !== "");
  const order = [...data.expression.names, ...groups.classes];
  const classes = [...new Set(groups.classes.filter((name) => name !== null))].sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const confusion = classes.length > 1;
  const names = confusion ? classes : groups.names;
  const rowOf = confusion ? groups.classes.map((name) => classes.indexOf(name)) : range(names.length);
  const counts = names.map(() => data.expression.names.map(() => 0));
  let outside = 0;
  for (const row of faces) {
    if (rowOf[groups.codes[row]] < 0) outside += 1;
    else if (named(data.expression, row)) counts[rowOf[groups.codes[row]]][data.expression.codes[row]] += 1;
  }
  const sums = counts.map((numbers) => numbers.reduce((sum, value) => sum + value, 0));
  const right = names.map((name, index) => counts[index][data.expression.names.indexOf(name)] ?? 0);
  const rows = range(names.length).filter((index) => sums[index]);
  if (!confusion) rows.sort((a, b) => sums[b] - sums[a]);
  drawTable({ confusion, names, columns, counts, sums, right, rows: rows.slice(0, 50) });
  const mean = rows.reduce((sum, index) => sum + right[index] / sums[index], 0) / rows.length;
  const [all, hits] = [sums, right].map((numbers) => numbers.reduce((sum, value) => sum + value, 0));
  at("confusion-title").textContent = `${confusion ? "Confusion: " : ""}${by} by expression`;
  at("confusion-hint").textContent = [
    confusion && rows.length ? `Rows are what each ${by} is called, columns what the network names. Mean recall ${(100 * mean).toFixed(1)}%, accuracy ${(100 * hits / all).toFixed(1)}% of ${counted(all, "face", "faces")}.` : "",
    confusion && outside ? `Left out: ${counted(outside, "face", "faces")} whose ${by} names no expression.` : "",
    rows.length > 50 ? `The 50 largest of ${rows.length}.` : "",
  ].filter(Boolean).join(" ");
}

function drawTable({ confusion, names, columns, counts, sums, right, rows }) {
  const head = element("tr");
  head.append(...["", ...columns.map((code) => data.expression.names[code]), "faces", ...(confusion ? ["recall"] : [])].map((text) => element("th", "", text)));
  const body = rows.map((index) => {
    const line = element("tr");
    line.append(element("th", "", names[index]));
    for (const code of columns) {
      const cell = element("td", confusion && data.expression.names[code] === names[index] ? "diagonal" : "", counts[index][code] || "");
      cell.style.background = `color-mix(in srgb, var(--blue) ${Math.round(70 * counts[index][code] / sums[index])}%, transparent)`;
      line.append(cell);
    }
    line.append(element("td", "", sums[index]), ...(confusion ? [element("td", "", `${(100 * right[index] / sums[index]).toFixed(1)}%`)] : []));
    return line;
  });
  const [top, rest] = [element("thead"), element("tbody")];
  top.append(head);
  rest.append(...body);
  at("confusion").replaceChildren(top, rest);
}
