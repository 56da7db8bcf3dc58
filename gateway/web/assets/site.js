// What every page gets beyond its HTML: charts from tables, copy buttons, forms sent once.
// Without this file each page still works; the charts are then tables.

const styles = getComputedStyle(document.documentElement);
const tone = (name) => styles.getPropertyValue(`--${name}`).trim();
const DEFAULT_TONES = ["chart-1", "chart-2", "chart-3", "chart-4", "chart-5"];
const charts = new Map();

function readTable(figure) {
  const heads = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
  const rows = [...figure.querySelectorAll("tbody tr")];
  return {
    labels: rows.map((row) => row.cells[0].textContent.trim()),
    series: heads.slice(1).map((label, index) => ({
      label,
      data: rows.map((row) => {
        const value = row.cells[index + 1].dataset.value;
        return value === "None" ? null : Number(value);
      }),
    })),
  };
}

function optionsFor(kind, count) {
  const grid = { color: tone("line"), drawTicks: false };
  const ticks = { color: tone("quiet"), maxRotation: 0, autoSkipPadding: 16, padding: 8 };
  const stacked = kind === "stacked";
  return {
    animation: false, // bars that grow come flying from a corner, and say nothing more
    maintainAspectRatio: false,
    interaction: { mode: "index", intersect: false },
    scales: {
      x: { stacked, ticks, grid: { display: false }, border: { color: tone("line") } },
      y: { stacked, beginAtZero: true, grid, border: { display: false }, ticks: { ...ticks, maxTicksLimit: 5, precision: 0 } },
    },
    plugins: {
      legend: {
        display: count > 1,
        position: "bottom",
        labels: { color: tone("ink"), boxWidth: 12, boxHeight: 12 },
      },
    },
  };
}

function drawChart(figure) {
  charts.get(figure)?.destroy();
  const kind = figure.dataset.chart;
  const tones = figure.dataset.tones ? figure.dataset.tones.split(" ") : DEFAULT_TONES;
  const { labels, series } = readTable(figure);
  const canvas = document.createElement("canvas");
  figure.querySelector(".canvas").replaceChildren(canvas);
  const datasets = series.map((one, index) => {
    const colour = tone(tones[index % tones.length]);
    return {
      ...one,
      backgroundColor: colour,
      borderColor: colour,
      borderWidth: kind === "line" ? 2 : 0,
      borderRadius: kind === "line" ? 0 : 2,
      maxBarThickness: 36,
      pointRadius: 0,
      tension: 0.25,
    };
  });
  const type = kind === "line" ? "line" : "bar";
  const options = optionsFor(kind, series.length);
  charts.set(figure, new Chart(canvas, { type, data: { labels, datasets }, options }));
  if (!figure.classList.contains("drawn")) figure.querySelector("details").open = false;
  figure.classList.add("drawn");
}

function drawCharts() {
  if (typeof Chart === "undefined") return;
  for (const [figure, chart] of charts) {
    if (figure.isConnected) continue;
    chart.destroy();
    charts.delete(figure);
  }
  Chart.defaults.font.family = styles.fontFamily;
  document.querySelectorAll("figure[data-chart]").forEach((figure) => drawChart(figure));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return; // without the permission the text is still there to be selected
  }
  // What only a screen reader is told stays: the label's own words alone change, and come back.
  const label = [...button.childNodes].find((node) => node.nodeType === Node.TEXT_NODE);
  button.dataset.word ??= label.data; // a second click within the time must not keep "Copied"
  label.data = "Copied";
  setTimeout(() => (label.data = button.dataset.word), 1500);
});

// A second click on an act would send it twice: the button rests until the answer is here.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  const button = event.submitter;
  if (button) setTimeout(() => (button.disabled = true), 0);
});
addEventListener("pageshow", () => {
  document.querySelectorAll("form button:disabled").forEach((button) => (button.disabled = false));
});

document.querySelectorAll("select[data-submit]").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
});

// On a telephone the bar of places scrolls: begin where one is.
document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

drawCharts();
document.addEventListener("htmx:after:swap", drawCharts);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
