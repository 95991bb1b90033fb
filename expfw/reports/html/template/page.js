"use strict";
(() => {
  const pageData = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Viridis: the best trial has the colour with the highest contrast to the page; the end with low contrast is omitted.
  const scales = {
    light: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#4ac16d"],
    dark: ["#fde725", "#addc30", "#5ec962", "#28ae80", "#21918c", "#2c728e", "#3f6496"],
  };
  const scale = () => scales[dark.matches ? "dark" : "light"];

  function between(share) {
    const colors = scale(), place = Math.min(Math.max(share, 0), 1) * (colors.length - 1);
    const index = Math.min(Math.floor(place), colors.length - 2), part = place - index;
    const channel = (color, at) => parseInt(color.slice(at, at + 2), 16);
    const mixed = [1, 3, 5].map(at =>
      Math.round(channel(colors[index], at) * (1 - part) + channel(colors[index + 1], at) * part));
    return `rgb(${mixed.join(",")})`;
  }

  function colored(value, styles) {
    if (Array.isArray(value)) return value.map(inner => colored(inner, styles));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, inner]) =>
        [key, key === "colorscale" ? scale().map((c, i, all) => [i / (all.length - 1), c]) : colored(inner, styles)]));
    if (typeof value !== "string") return value;
    const named = /^var\((--[a-z-]+)\)$/.exec(value), shared = /^scale\(([0-9.]+)\)$/.exec(value);
    return named ? styles.getPropertyValue(named[1]).trim() : shared ? between(Number(shared[1])) : value;
  }

  function themed(figure, styles) {
    const of = name => styles.getPropertyValue(name).trim();
    const {data, layout} = colored(figure, styles);
    const axis = {
      gridcolor: of("--line"), linecolor: of("--line"), zeroline: false, automargin: true,
      tickfont: {color: of("--muted"), size: 11},
    };
    const titled = (own = {}) => ({...axis, ...own, title: {...own.title, font: {color: of("--text"), size: 12}}});
    for (const trace of data) {
      if (trace.customdata) {
        trace.text = trace.customdata.map(number => pageData.hover[number]);
        trace.hoverinfo = "text";
      }
      if (trace.type === "parcoords") {
        Object.assign(trace, {
          labelfont: {color: of("--text"), size: 12}, tickfont: {color: of("--text"), size: 11},
          rangefont: {color: "rgba(0,0,0,0)", size: 1}, unselected: {line: {color: of("--muted"), opacity: 0.12}},
        });
      }
    }
    return [data, {
      margin: {l: 60, r: 16, t: 16, b: 46}, showlegend: data.some(trace => trace.showlegend), hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {family: getComputedStyle(document.body).fontFamily, color: of("--text"), size: 12},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: of("--muted"), activecolor: of("--accent")},
      hoverlabel: {bgcolor: of("--card"), bordercolor: of("--muted"), font: {color: of("--text")}, align: "left"},
      ...layout, xaxis: titled(layout.xaxis), yaxis: titled(layout.yaxis),
      legend: {...layout.legend, font: {color: of("--text"), size: 11}},
    }];
  }

  const config = {
    displaylogo: false, responsive: true, showTips: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };

  function draw() {
    const styles = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(pageData.figures)) Plotly.react(id, ...themed(figure, styles), config);
  }

  draw();
  dark.addEventListener("change", draw);

  function sortBy(header) {
    const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const numeric = key => key !== "" && !Number.isNaN(Number(key));
    const compare = (one, other) => numeric(one) && numeric(other) ? one - other
      : numeric(one) !== numeric(other) ? (numeric(one) ? -1 : 1) : one.localeCompare(other);
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort(([one], [other]) => (one === "") !== (other === "") ? (one === "" ? 1 : -1)
      : falling ? compare(other, one) : compare(one, other));
    body.append(...rows.map(([, row]) => row));
  }

  for (const button of document.querySelectorAll("th button"))
    button.addEventListener("click", () => sortBy(button.closest("th")));

  async function copy(button) {
    const code = button.parentElement.querySelector(".code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);  // inside a frame of another page the clipboard may be blocked
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  for (const button of document.querySelectorAll("button.copy"))
    button.addEventListener("click", () => copy(button));
})();
