// Keeps the page that Tcl made up to date: one request a second, over the same connection.
const KEEP = 60;
const history = new Map();
let last = null;

const grouped = (value) => value.toLocaleString("en");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

function duration(seconds) {
  if (seconds < 60) return [Math.floor(seconds), "s"];
  const minutes = Math.floor(seconds / 60);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (minutes < 60) return [`${minutes}:${two(seconds % 60)}`, "min"];
  return [`${Math.floor(minutes / 60)}:${two(minutes % 60)}`, "h"];
}

function spark(tile, values) {
  let svg = tile.querySelector("svg");
  if (!svg) {
    tile.insertAdjacentHTML("beforeend",
      '<svg class="spark" viewBox="0 0 59 20" aria-hidden="true" preserveAspectRatio="none">' +
      '<path class="area"/><path class="line"/></svg>');
    svg = tile.querySelector("svg");
  }
  const peak = Math.max(...values, 1);
  const start = KEEP - values.length;
  const point = (value, i) => `${start + i} ${(19 - 18 * value / peak).toFixed(2)}`;
  const line = values.map(point).join("L");
  svg.querySelector(".line").setAttribute("d", `M${line}`);
  svg.querySelector(".area").setAttribute("d", `M${start} 20L${line}L59 20Z`);
}

function show(stats) {
  const [time, unit] = duration(stats.uptime);
  const texts = { engine: stats.engine, server: stats.server, uptime: time,
    connections: grouped(stats.connections) };
  for (const [name, text] of Object.entries(texts)) {
    document.querySelector(`[data-stat=${name}]`).textContent = text;
  }
  document.querySelector("[data-unit=uptime]").textContent = unit;
  for (const cell of document.querySelectorAll("[data-counter]")) {
    cell.textContent = grouped(stats.counters[cell.dataset.counter] ?? 0);
  }
  if (last && stats.uptime > last.uptime) {
    document.getElementById("rates").hidden = false;
    for (const tile of document.querySelectorAll("[data-rate]")) {
      const name = tile.dataset.rate;
      const rate = (stats.counters[name] - last.counters[name]) / (stats.uptime - last.uptime);
      const values = history.get(name) ?? [];
      values.push(Math.max(0, rate));
      history.set(name, values.slice(-KEEP));
      tile.querySelector("[data-now]").textContent =
        "bytes" in tile.dataset ? bytes(rate) : grouped(Math.round(rate));
      spark(tile, history.get(name));
    }
  }
  last = stats;
}

function state(name, text) {
  document.getElementById("state").className = `state ${name}`;
  document.getElementById("state-text").textContent = text;
}

async function tick() {
  try {
    const answer = await fetch("stats.json", { cache: "no-store" });
    show(await answer.json());
    state("live", "Live, once a second");
  } catch {
    state("lost", "The server does not answer; trying again");
  }
  setTimeout(tick, 1000);
}

tick();
