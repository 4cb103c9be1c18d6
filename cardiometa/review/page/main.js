// Overview and scan view: which one is shown, keys, messages.
import { Overview } from "./overview.js";
import { ScanView } from "./scan.js";

const byId = (id) => document.getElementById(id);

export function say(text) { byId("status").textContent = text; }
export function warn(text) {
  byId("alert").textContent = text;
  byId("alert").hidden = !text;
}

const KEYS = [
  ["Enter", "open a scan, start the queue"], ["Esc", "back to the overview"],
  ["N, P", "next, previous scan"], ["A", "accept the contours as shown"], ["R", "reject with a reason"],
  ["← →", "previous, next frame"], ["↑ ↓", "next slice towards base, apex"], ["Space", "play, stop"],
  ["E", "switch between ED and ES"], ["D, S", "ED, ES at this frame"], ["C", "contours on, off"],
  ["F", "filled"], ["M", "the model's contours too"], ["+ − 0", "zoom in, out, fit"],
  ["V G B X", "move, drag a contour, brush, erase"], ["1 2 3", "LV cavity, myocardium, RV cavity"],
  ["[ ]", "smaller, larger brush"], ["T", "slice off, on in this phase"], ["Z, Y", "undo, redo"],
  ["Ctrl S", "save without a decision"],
  ["K", "keyboard cursor: arrows move it (Shift: faster), Enter paints or grabs and drops"],
  ["mouse", "wheel: slice; Ctrl wheel: zoom; right button: brightness and contrast; middle: move"],
];

let overview, view, current = null;

function show(name) {
  byId("overview").hidden = name !== "overview";
  byId("scan").hidden = name !== "scan";
  byId("to-table").hidden = name !== "scan";
}

// Counts what was asked for: of two requests that overlap the later one counts.
let turn = 0;

async function toTable() {
  turn += 1;
  const mine = turn;
  if (current !== null) await view.leave();
  if (mine !== turn) return;
  current = null;
  history.replaceState(null, "", "#");
  show("overview");
  overview.update();
  byId("grid").focus();
}

async function toScan(n) {
  if (n === null) { say("Nothing is left in this list."); await toTable(); return; }
  turn += 1;
  const mine = turn;
  warn("");
  if (current !== null && current !== n) await view.leave();
  if (mine !== turn) return;
  current = n;
  history.replaceState(null, "", `#scan=${n}`);
  show("scan");
  await view.open(n);
}

async function start() {
  for (const [key, text] of KEYS) {
    const line = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = key;
    dd.textContent = text;
    line.append(dt, dd);
    byId("keys").append(line);
  }
  const help = byId("help");
  byId("help-button").addEventListener("click", () => help.showModal());
  byId("help-close").addEventListener("click", () => help.close());
  byId("to-table").addEventListener("click", toTable);
  overview = new Overview((n) => toScan(n));
  view = new ScanView({
    say, warn,
    next: (n, step, any) => overview.neighbour(n, step, any),
    go: toScan,
    decided: (n, decision, rule) => overview.set(n, { decision, saved: false }, rule),
    saved: (n) => overview.set(n, { saved: true }),
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (document.querySelector("dialog[open]") || typing) return;
    if (event.key === "?") { event.preventDefault(); help.showModal(); return; }
    if (current === null) {
      if (event.key === "Enter" && event.target === document.body) overview.start();
      return;
    }
    if (event.key === "Escape") { event.preventDefault(); if (!view.dropCursor()) toTable(); return; }
    view.key(event);
  });
  try {
    await overview.load();
    const found = /^#scan=(\d+)$/.exec(location.hash);
    if (found && Number(found[1]) < overview.rows.length) await toScan(Number(found[1]));
    else { show("overview"); byId("grid").focus(); }
  } catch (error) {
    show("overview");
    warn(error.message);
  }
}

start();
