// Keeps the progress bars, status badges and the log of the page up to date while runs go on.
"use strict";

const INTERVAL = 2000;

const watched = () => [...document.querySelectorAll(".run-progress[data-over='0']")];

async function refreshBars() {
  const bars = watched();
  if (!bars.length) return;
  const ids = bars.map((bar) => bar.dataset.run).slice(0, 200);
  const response = await fetch(`${bars[0].dataset.url}?ids=${ids.join(",")}`, { credentials: "same-origin" });
  if (!response.ok) return;
  const runs = await response.json();
  for (const bar of bars) {
    const run = runs[bar.dataset.run];
    if (!run) continue;
    bar.querySelector(".run-done").style.width = `${run.percent}%`;
    bar.querySelector(".run-words").textContent = run.words;
    bar.dataset.over = run.over ? "1" : "0";
    if (bar.dataset.status !== run.status) {
      bar.dataset.status = run.status;
      relabel(bar, run.status);
    }
  }
}

// The badge in the same row of the list; elsewhere the page is loaded again once the run is over.
function relabel(bar, status) {
  const cell = bar.closest("tr")?.querySelector(".field-status_label span");
  if (cell && !bar.closest(".run-steps")) cell.textContent = status;
  if (bar.dataset.over === "1" && !document.querySelector("form#changelist-form input:checked")) location.reload();
}

async function refreshLog() {
  const log = document.querySelector(".run-log");
  if (!log || log.dataset.done) return;
  const response = await fetch(log.dataset.url, { credentials: "same-origin" });
  if (response.ok) log.textContent = (await response.text()) || (log.dataset.over === "1" ? "Nothing was written." : "Nothing yet.");
  else log.textContent = "The log cannot be read at the moment.";
  if (log.dataset.over === "1" && response.ok) log.dataset.done = "1";
}

async function refresh() {
  await Promise.allSettled([refreshBars(), refreshLog()]);
  setTimeout(refresh, INTERVAL);
}

document.addEventListener("DOMContentLoaded", refresh);
