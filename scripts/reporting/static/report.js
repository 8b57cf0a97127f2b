// What the pages of the report do: records open, tables sort, the audit filters, sliders change sides, curves are drawn.
"use strict";

// A number opens its record; without this script the link leads to it all the same.
for (const link of document.querySelectorAll("a.record")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById(link.hash.slice(1)).showModal();
  });
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // on the backdrop
  });
}
// A link from elsewhere opens it as a dialog too, which closes with a key.
const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
if (target instanceof HTMLDialogElement) {
  history.replaceState(null, "", location.pathname + location.search);
  target.showModal();
}

// A head sorts its table, numbers downwards at first and names from A; rows without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(table, button.closest("th")));
  }
}

function columnOf(table, head) {
  const [first, second] = table.tHead.rows;
  if (!second) return head.cellIndex;
  const labels = [...first.cells].filter((cell) => cell.rowSpan === 2).length;
  return head.parentElement === first ? head.cellIndex : labels + head.cellIndex;
}

function sort(table, head) {
  const column = columnOf(table, head);
  const keyed = [...table.tBodies[0].rows].map((row) => {
    const cell = row.cells[column];
    return { row, value: cell.dataset.value, text: cell.textContent.trim() };
  });
  const numbers = keyed.some((item) => item.value !== undefined);
  const up = head.ariaSort ? head.ariaSort === "descending" : !numbers;
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  head.ariaSort = up ? "ascending" : "descending";
  const sign = up ? 1 : -1;
  keyed.sort((a, b) => {
    if (!numbers) return sign * a.text.localeCompare(b.text);
    if (a.value === undefined || b.value === undefined) return (a.value === undefined) - (b.value === undefined);
    return sign * (a.value - b.value);
  });
  table.tBodies[0].append(...keyed.map((item) => item.row));
}

// The audit shows what fits every choice.
for (const form of document.querySelectorAll("form.filter")) {
  const items = form.dataset.for.split(" ").flatMap((id) => [
    ...document.querySelectorAll(`#${id} > [data-verdict], #${id} tbody > [data-verdict]`),
  ]);
  const update = () => {
    const choices = [...new FormData(form)].filter(([, value]) => value);
    let shown = 0;
    for (const item of items) {
      item.hidden = !choices.every(([key, value]) => JSON.parse(item.dataset[key]).includes(value));
      shown += !item.hidden;
    }
    form.querySelector("output").value = `${shown} of ${items.length} shown`;
  };
  form.addEventListener("input", update);
  update();
}

// Sliders tell assistive technology where they stand, and show other pairs of images on demand.
for (const slider of document.querySelectorAll("img-comparison-slider")) {
  slider.addEventListener("slide", () => (slider.ariaValueNow = Math.round(slider.value)));
}
const chooser = document.querySelector(".chooser");
if (chooser) {
  const names = {};
  const [first] = document.querySelectorAll(".slider .sides");
  [names.without, names.with] = [...first.children].map((label) => label.textContent);
  names.real = "real";
  chooser.addEventListener("input", (event) => {
    const sides = event.target.value.split(" ");
    for (const slider of document.querySelectorAll(".slider img-comparison-slider")) {
      const images = slider.querySelectorAll("img");
      const labels = slider.parentElement.querySelectorAll(".sides span");
      sides.forEach((side, index) => {
        images[index].src = slider.dataset[side];
        images[index].alt = images[index].alt.replace(/, [^,]*$/, `, ${names[side]}`);
        labels[index].textContent = names[side];
      });
      const heading = slider.ariaLabel.split(":")[0];
      slider.ariaLabel = `${heading}: ${names[sides[0]]} left of the handle, ${names[sides[1]]} right of it; arrow keys move it`;
    }
  });
}

// Curves. Colour tells the runs apart, and so do dashes; a shade is the standard deviation over seeds.
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 5]];
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

function draw(figure) {
  const chart = JSON.parse(figure.dataset.chart);
  const place = figure.querySelector(".plot");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const data = [chart.x.values];
  const names = chart.x.names;
  const series = [{ label: chart.x.label, value: (_, x) => (x == null ? "–" : names ? names[chart.x.values.indexOf(x)] : x) }];
  const bands = [];
  const format = (_, y) => (y == null ? "–" : Number(y.toPrecision(4)).toString());
  for (const curve of chart.series) {
    const own = curve.dash ?? 0;
    const colour = curve.side === "other" ? PALETTE[own % PALETTE.length] : css(`--${curve.side}`);
    if (curve.low) {
      data.push(curve.high, curve.low);
      const edge = { label: "", class: "spread", stroke: "transparent", points: { show: false } };
      bands.push({ series: [series.length, series.length + 1], fill: colour + "33" });
      series.push(edge, { ...edge });
    }
    data.push(curve.values);
    const dash = DASHES[(curve.dash === undefined ? +(curve.side === "without") : own) % DASHES.length];
    series.push({ label: curve.label, stroke: colour, width: 2, dash, spanGaps: true, value: format, points: { show: !!names } });
  }
  const axis = { stroke: css("--text"), grid: { stroke: css("--rule"), width: 1 }, ticks: { stroke: css("--rule") } };
  const ticks = (_, values) => values.map((value) => (value == null ? "" : Number(value.toPrecision(3)).toString()));
  const options = {
    width: place.clientWidth,
    height: 256,
    scales: {
      x: { time: false, ...(chart.x.log ? { distr: 3, log: chart.x.log } : {}) },
      y: chart.log ? { distr: 3, log: 10 } : {},
    },
    axes: [
      { ...axis, label: chart.x.label, labelSize: 20, size: 34 },
      { ...axis, size: 58, values: ticks },
    ],
    series,
    bands,
    cursor: { drag: { x: true, y: false } },
  };
  place.replaceChildren();
  const plot = new uPlot(options, data, place);
  new ResizeObserver(() => {
    if (place.clientWidth && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: 256 });
  }).observe(place);
}

const charts = document.querySelectorAll(".chart");
if (charts.length) {
  charts.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));
}
