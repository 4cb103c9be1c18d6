// One scan: the large image with its cine, all slices at ED and ES, the curve, edits, the decision.
import { LABEL_COLOURS, STRUCTURES, boxOf, dragged, filled, loops, nearestContour, outline, paint, smoothed, withStructure } from "./geometry.js";
import { Refused, getBytes, getJson, post, put } from "./server.js";

const byId = (id) => document.getElementById(id);
const REASONS = [
  "image quality: motion, artefact or contrast", "not a short axis, or the wrong series",
  "incomplete stack: base or apex not imaged", "images of another participant or visit",
  "pathology that contours cannot describe", "",
];
const KEPT_SCANS = 3; // in the page: shown, next, previous
const AUTOSAVE_MS = 4000;
const IDLE_MS = 60000; // without a sign of the reader, time is not counted

// What the page has of a scan; the images come slice by slice, as they are needed.
class Scan {
  constructor(n) {
    this.n = n;
    this.phases = new Map(); this.slices = new Map(); this.outlines = new Map();
    this.model = null; this.undo = []; this.redo = []; this.removed = new Map();
    this.ready = this.load();
  }

  async load() {
    const [info, labels] = await Promise.all([getJson(`api/scans/${this.n}`), getBytes(`api/scans/${this.n}/labels`)]);
    this.info = info;
    [this.t, this.z, this.h, this.w] = info.shape;
    this.labels = labels;
    this.state = info;
    await Promise.all([...new Set([info.ed, info.es])].map((t) => this.phase(t)));
    this.order = Array.from({ length: this.z }, (_, z) => (info.base === "last" ? this.z - 1 - z : z));
    this.slice = this.middle();
    this.frame = info.ed;
    await this.cine(this.slice);
  }

  // Frames and slices have the source's numbers, from 0, as in the tables and the report.
  number(t) { return this.info.numbers[t]; }

  get plane() { return this.w * this.h; }
  at(t, z) { const i = (t * this.z + z) * this.plane; return this.labels.subarray(i, i + this.plane); }
  modelAt(t, z) { const i = (t * this.z + z) * this.plane; return this.model?.subarray(i, i + this.plane); }

  image(t, z) {
    const cine = this.slices.get(z);
    if (cine) return cine.subarray(t * this.plane, (t + 1) * this.plane);
    return this.phases.get(t)?.subarray(z * this.plane, (z + 1) * this.plane);
  }

  phase(t) {
    if (this.phases.has(t)) return Promise.resolve();
    return getBytes(`api/scans/${this.n}/phase/${t}`).then((data) => { this.phases.set(t, data); });
  }

  cine(z) {
    if (this.slices.has(z)) return Promise.resolve();
    return getBytes(`api/scans/${this.n}/slice/${z}`).then((data) => { this.slices.set(z, data); });
  }

  async loadModel() { this.model ??= await getBytes(`api/scans/${this.n}/labels?whose=model`); }

  middle() {
    const used = [];
    for (let z = 0; z < this.z; z++) if (this.at(this.info.ed, z).some((v) => v)) used.push(z);
    return used[Math.floor(used.length / 2)] ?? Math.floor(this.z / 2);
  }

  // The square [x, y, side] around the heart, with a margin.
  heart() {
    let box = null;
    for (const t of [this.state.ed, this.state.es]) {
      for (let z = 0; z < this.z; z++) {
        const b = boxOf(this.at(t, z), this.w, this.h);
        if (b) box = box ? [Math.min(box[0], b[0]), Math.min(box[1], b[1]), Math.max(box[2], b[2]), Math.max(box[3], b[3])] : b;
      }
    }
    if (!box) return [-0.5, -0.5, Math.max(this.w, this.h)];
    const side = Math.min(Math.max(box[2] - box[0], box[3] - box[1]) * 1.25 + 14, Math.max(this.w, this.h));
    return [(box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2, side];
  }

  // Contours of one image as loops of points, kept until it is edited.
  contours(t, z, which, model = false) {
    const key = `${model ? "m" : "r"}${t},${z},${which}`;
    if (!this.outlines.has(key)) {
      if (this.outlines.size > 4000) this.outlines.clear();
      const labels = model ? this.modelAt(t, z) : this.at(t, z);
      this.outlines.set(key, loops(outline(labels, this.w, this.h, STRUCTURES[which].has)).map(smoothed));
    }
    return this.outlines.get(key);
  }

  replace(t, z, labels) {
    this.at(t, z).set(labels);
    for (const which of Object.keys(STRUCTURES)) this.outlines.delete(`r${t},${z},${which}`);
  }
}

export class ScanView {
  constructor(parts) {
    this.parts = parts;
    this.scans = new Map();
    this.scan = null;
    this.show = { contours: true, fill: false, compare: false };
    this.tool = "none"; this.structure = 1; this.size = 4;
    this.cursor = null; this.pointer = null; this.stroke = null; this.playing = false;
    this.window = { level: 128, width: 256 };
    this.pending = Promise.resolve();
    this.opening = null; this.broken = null; this.deciding = false;
    this.seconds = 0; this.lastSign = Date.now();
    this.canvas = byId("view");
    this.buffer = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    new ResizeObserver(() => this.strip()).observe(byId("strip"));
    new ResizeObserver(() => this.curve()).observe(byId("curve"));
    setInterval(() => {
      if (this.scan && !document.hidden && Date.now() - this.lastSign < IDLE_MS) this.seconds += 1;
    }, 1000);
    for (const sign of ["pointermove", "keydown", "wheel", "pointerdown"]) {
      document.addEventListener(sign, () => { this.lastSign = Date.now(); }, { passive: true });
    }
    document.addEventListener("visibilitychange", () => { if (document.hidden && this.scan) this.save(); });
    window.addEventListener("beforeunload", (event) => { if (this.scan && this.unsaved()) event.preventDefault(); });
  }

  // ---------------------------------------------------------------- opening and leaving

  fetch(n) {
    let scan = this.scans.get(n);
    if (scan) this.scans.delete(n);
    else {
      scan = new Scan(n);
      scan.ready.catch(() => this.scans.delete(n));
    }
    this.scans.set(n, scan);
    for (const old of this.scans.keys()) {
      if (this.scans.size <= KEPT_SCANS) break;
      if (old !== n && old !== this.scan?.n) this.scans.delete(old);
    }
    return scan;
  }

  async open(n) {
    const begun = performance.now();
    const scan = this.fetch(n);
    this.opening = n;
    this.broken = null;
    byId("name").textContent = "…";
    try {
      await scan.ready;
      // Meanwhile another scan was asked for, or the overview.
      if (this.opening !== n) return;
    } catch (error) {
      if (this.opening !== n) return;
      this.scan = null;
      this.broken = n;
      byId("name").textContent = "This scan cannot be shown";
      for (const id of ["facts", "decided", "caption"]) byId(id).textContent = "";
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      byId("strip").replaceChildren();
      byId("flags").replaceChildren();
      byId("measures").tBodies[0].replaceChildren();
      this.parts.warn(error.message);
      return;
    }
    this.scan = scan;
    this.seconds = 0;
    this.cursor = null;
    scan.slice ??= scan.middle();
    byId("name").textContent = scan.info.name;
    byId("facts").textContent = scan.info.facts;
    byId("comment").value = scan.info.comment;
    this.fit();
    this.refresh();
    this.canvas.focus();
    this.parts.say("");
    document.body.dataset.shown = String(n);
    document.body.dataset.shownMs = String(Math.round(performance.now() - begun));
    this.fetchRest(scan);
  }

  // The next scan of the queue, so that it is shown at once, and all slices of this one.
  async fetchRest(scan) {
    if (this.show.compare) await scan.loadModel().then(() => this.redraw(), () => {});
    const next = this.parts.next(scan.n, 1);
    if (next !== null) await this.fetch(next).ready.catch(() => {});
    for (let z = 0; z < scan.z && this.scan === scan; z++) await scan.cine(z).catch(() => {});
  }

  async leave() {
    this.play(false);
    this.opening = null;
    delete document.body.dataset.shown;
    await this.save();
    if (this.opening === null) this.scan = this.broken = null;
  }

  unsaved() { return Boolean(this.scan) && (this.dirty || this.waiting); }

  // ---------------------------------------------------------------- edits on the server

  // Requests of one scan follow each other, because each needs the revision of the one before.
  send(action) {
    const scan = this.scan;
    this.waiting = true;
    const done = this.pending.then(() => action(scan)).then(
      (state) => {
        if (state && state.revision !== undefined && state.curves) scan.state = { ...scan.state, ...state };
        if (state?.curves) {
          this.dirty = !state.saved;
          scan.info.newer = true;
        }
        this.parts.warn("");
        if (this.scan === scan) this.refresh();
        return state;
      },
      async (error) => {
        this.parts.warn(error.message);
        if (error instanceof Refused && error.status === 409) {
          this.scans.delete(scan.n);
          if (this.scan === scan) await this.open(scan.n);
          this.parts.warn(error.message);
        }
        return null;
      },
    ).finally(() => { this.waiting = false; });
    this.pending = done;
    return done;
  }

  sendLabels(places) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), AUTOSAVE_MS);
    this.dirty = true;
    const at = places.map(([t, z]) => `${t},${z}`).join(";");
    return this.send((scan) => {
      const data = new Uint8Array(places.length * scan.plane);
      places.forEach(([t, z], i) => data.set(scan.at(t, z), i * scan.plane));
      return put(`api/scans/${scan.n}/labels?at=${at}&revision=${scan.state.revision}`, data);
    });
  }

  // Replace images' labels, with undo; `places` are [t, z, labels].
  change(places) {
    const scan = this.scan;
    const entry = places
      .map(([t, z, labels]) => [t, z, scan.at(t, z).slice(), labels])
      .filter(([, , before, after]) => before.some((v, i) => v !== after[i]));
    if (!entry.length) { this.redraw(); return; }
    scan.undo.push(entry);
    scan.redo = [];
    this.replay(entry, 3);
  }

  replay(entry, which) {
    for (const step of entry) this.scan.replace(step[0], step[1], step[which]);
    this.redraw();
    this.sendLabels(entry.map(([t, z]) => [t, z]));
  }

  back(from, to, which) {
    const scan = this.scan, entry = scan[from].pop();
    if (!entry) return;
    scan[to].push(entry);
    const [t, z] = entry[0];
    this.goTo(t, z);
    this.replay(entry, which);
  }

  async save() {
    clearTimeout(this.timer);
    if (!this.scan) return;
    await this.pending;
    const scan = this.scan;
    if (!scan || !this.dirty) return;
    const found = await this.send(() => post(`api/scans/${scan.n}/save`, { seconds: this.seconds, comment: byId("comment").value }));
    if (found) {
      this.dirty = false;
      this.seconds = 0;
      scan.info.comment = byId("comment").value;
      this.parts.saved(scan.n);
      this.parts.say(`Saved at ${new Date().toLocaleTimeString()}.`);
    }
  }

  async decide(decision, reason = "") {
    const scan = this.scan, n = scan?.n ?? this.broken;
    if (n === null || n === undefined || this.deciding) return;
    this.deciding = true; // a second key before the next scan is shown is not meant for it
    try {
      await this.decideOn(scan, n, decision, reason);
    } finally {
      this.deciding = false;
    }
  }

  async decideOn(scan, n, decision, reason) {
    clearTimeout(this.timer);
    await this.pending;
    if (this.scan !== scan) return;
    const body = { decision, reason, comment: byId("comment").value, seconds: this.seconds, revision: scan?.state.revision ?? 0 };
    const call = () => post(`api/scans/${n}/decision`, body);
    const found = scan ? await this.send(call) : await call().catch((error) => { this.parts.warn(error.message); });
    if (!found) return;
    this.dirty = false;
    this.seconds = 0;
    if (scan) Object.assign(scan.info, { decision: found.decision, reason, comment: body.comment, newer: false });
    this.parts.decided(n, found.decision, found.rule);
    this.parts.say(`${scan?.info.name ?? "Scan"}: ${found.decision || "open again"}, saved.`);
    if (decision === "reopened") this.refresh();
    else if (this.opening === n) await this.parts.go(this.parts.next(n, 1));
  }

  async setFrames(ed, es) {
    const scan = this.scan;
    if (scan.info.is_pair) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), AUTOSAVE_MS);
    this.dirty = true;
    await this.send((s) => post(`api/scans/${s.n}/frames`, { ed, es, revision: s.state.revision }));
    await Promise.all([scan.phase(scan.state.ed), scan.phase(scan.state.es)]).catch(() => {});
    if (this.scan === scan) this.redraw();
  }

  async restoreAll() {
    const scan = this.scan;
    this.dirty = true;
    await this.send((s) => post(`api/scans/${s.n}/restore`, { revision: s.state.revision }));
    await scan.loadModel();
    scan.labels.set(scan.model);
    scan.outlines.clear();
    scan.undo = []; scan.redo = [];
    await Promise.all([scan.phase(scan.state.ed), scan.phase(scan.state.es)]).catch(() => {});
    this.timer = setTimeout(() => this.save(), AUTOSAVE_MS);
    this.redraw();
  }

  async restoreSlice() {
    const scan = this.scan;
    await scan.loadModel();
    this.change([[scan.frame, scan.slice, scan.modelAt(scan.frame, scan.slice).slice()]]);
  }

  // The basal or apical slice (or any) off or on in this phase: on again as it was, or as its neighbour.
  async toggleSlice() {
    const scan = this.scan, { frame: t, slice: z } = scan, key = `${t},${z}`;
    const now = scan.at(t, z);
    if (now.some((v) => v)) {
      scan.removed.set(key, now.slice());
      this.change([[t, z, new Uint8Array(scan.plane)]]);
      return;
    }
    await scan.loadModel();
    const candidates = [scan.removed.get(key), scan.modelAt(t, z), z + 1 < scan.z ? scan.at(t, z + 1) : null, z > 0 ? scan.at(t, z - 1) : null];
    const found = candidates.find((labels) => labels?.some((v) => v));
    if (found) this.change([[t, z, found.slice()]]);
    else this.parts.say("There is no contour in the neighbouring slices: draw one.");
  }

  // ---------------------------------------------------------------- what is shown

  refresh() {
    const { state, info } = this.scan;
    const body = byId("measures").tBodies[0];
    body.replaceChildren(...state.measures.map(([name, ...values]) => {
      const row = document.createElement("tr");
      const cells = [name, ...values.map((v) => (v === null ? "–" : v.toFixed(1)))];
      cells.forEach((text, i) => {
        const cell = document.createElement(i ? "td" : "th");
        if (!i) cell.scope = "row";
        cell.textContent = text;
        if (i % 2 && text !== cells[i + 1]) cell.className = "moved";
        else if (i && !(i % 2)) cell.className = "model";
        row.append(cell);
      });
      return row;
    }));
    byId("measures").hidden = !state.measures.length;
    byId("flags").replaceChildren(...state.flags.map(([code, level, sentence]) => {
      const item = document.createElement("li");
      item.className = level;
      item.textContent = sentence;
      item.title = `${code} (${level})`;
      return item;
    }));
    byId("decided").textContent = info.decision
      ? `Your decision: ${info.decision}${info.reason ? ` (${info.reason})` : ""}${info.newer ? ". Changed since: accept again, or the earlier contours count." : ""}`
      : state.changed ? "Edited, not decided." : "Not decided.";
    byId("decided").classList.toggle("newer", Boolean(info.decision && info.newer));
    byId("reopen").hidden = !info.decision;
    byId("accept").firstChild.textContent = state.changed ? "Accept edited " : "Accept ";
    for (const id of ["set-ed", "set-es", "auto-phases"]) byId(id).disabled = info.is_pair;
    byId("auto-phases").disabled ||= !state.chosen;
    byId("edit").disabled = false;
    document.body.dataset.revision = String(state.revision);
    document.body.dataset.recomputeMs = String(Math.round(1000 * state.seconds));
    this.redraw();
  }

  redraw() { this.draw(); this.strip(); this.curve(); }

  fit() {
    const [x, y, side] = this.scan.heart();
    this.view = { x: x + side / 2, y: y + side / 2, side };
  }

  zoom(factor) {
    this.view.side = Math.min(Math.max(this.view.side / factor, 16), 2 * Math.max(this.scan.w, this.scan.h));
    this.draw();
  }

  scale() { return Math.min(this.canvas.width, this.canvas.height) / this.view.side; }

  toImage(event) {
    const box = this.canvas.getBoundingClientRect(), k = this.canvas.width / box.width, s = this.scale();
    return [
      (((event.clientX - box.left) * k) - this.canvas.width / 2) / s + this.view.x,
      (((event.clientY - box.top) * k) - this.canvas.height / 2) / s + this.view.y,
    ];
  }

  grey(canvas, t, z) {
    const scan = this.scan, image = scan.image(t, z);
    if (canvas.width !== scan.w || canvas.height !== scan.h) { canvas.width = scan.w; canvas.height = scan.h; }
    const context = canvas.getContext("2d");
    if (!image) { context.fillRect(0, 0, scan.w, scan.h); return; }
    const { level, width } = this.window, table = new Uint32Array(256);
    for (let v = 0; v < 256; v++) {
      const g = Math.max(0, Math.min(255, Math.round(((v - level + width / 2) * 255) / width)));
      table[v] = 0xff000000 | (g << 16) | (g << 8) | g;
    }
    const data = context.createImageData(scan.w, scan.h), pixels = new Uint32Array(data.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = table[image[i]];
    context.putImageData(data, 0, 0);
  }

  // One image with its contours into a canvas whose pixel (x, y) of the scan lies at place(x, y).
  render(canvas, t, z, s, ox, oy, line) {
    const scan = this.scan, context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.grey(this.buffer, t, z);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.buffer, ox - 0.5 * s, oy - 0.5 * s, scan.w * s, scan.h * s);
    if (this.show.contours && this.show.fill) this.fillLabels(context, t, z, s, ox, oy);
    const layers = [];
    if (this.show.compare && scan.model) layers.push([true, [4, 4]]);
    if (this.show.contours) layers.push([false, []]);
    for (const [model, dash] of layers) {
      for (const which of ["rv", "epi", "endo"]) {
        context.beginPath();
        for (const loop of scan.contours(t, z, which, model)) {
          loop.forEach(([x, y], i) => (i ? context.lineTo(ox + x * s, oy + y * s) : context.moveTo(ox + x * s, oy + y * s)));
          context.closePath();
        }
        context.lineJoin = "round";
        context.lineWidth = line;
        context.setLineDash(dash);
        context.strokeStyle = model ? "#ffffff" : STRUCTURES[which].colour;
        context.stroke();
      }
    }
    context.setLineDash([]);
  }

  fillLabels(context, t, z, s, ox, oy) {
    const scan = this.scan, labels = scan.at(t, z), canvas = this.overlay;
    canvas.width = scan.w; canvas.height = scan.h;
    const inner = canvas.getContext("2d"), data = inner.createImageData(scan.w, scan.h);
    for (let i = 0; i < labels.length; i++) if (labels[i]) data.data.set(LABEL_COLOURS[labels[i]], 4 * i);
    inner.putImageData(data, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, ox - 0.5 * s, oy - 0.5 * s, scan.w * s, scan.h * s);
  }

  draw() {
    const scan = this.scan, canvas = this.canvas;
    if (!scan?.state || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const s = this.scale(), ox = width / 2 - this.view.x * s, oy = height / 2 - this.view.y * s;
    this.render(canvas, scan.frame, scan.slice, s, ox, oy, 1.8 * ratio);
    const spot = this.cursor ?? this.pointer;
    if (spot && (this.cursor || ["brush", "erase"].includes(this.tool))) {
      const context = canvas.getContext("2d");
      const r = this.tool === "brush" || this.tool === "erase" ? this.size : 1.5;
      context.beginPath();
      context.arc(ox + spot[0] * s, oy + spot[1] * s, r * s, 0, 2 * Math.PI);
      context.lineWidth = 1.5 * ratio;
      context.strokeStyle = this.tool === "erase" ? "#fff" : ["", STRUCTURES.endo.colour, STRUCTURES.epi.colour, STRUCTURES.rv.colour][this.structure];
      context.stroke();
    }
    const { ed, es } = scan.state;
    const phase = scan.frame === ed ? ", ED" : scan.frame === es ? ", ES" : "";
    const time = scan.info.frame_ms ? `, ${Math.round(scan.frame * scan.info.frame_ms)} ms` : "";
    const off = scan.at(scan.frame, scan.slice).some((v) => v) ? "" : "\nno contour in this image";
    byId("caption").textContent = `Slice ${scan.slice} (0 to ${scan.z - 1})\nFrame ${scan.number(scan.frame)} (${scan.number(0)} to ${scan.number(scan.t - 1)})${phase}${time}${off}`;
    canvas.setAttribute("aria-label", byId("caption").textContent);
    canvas.classList.toggle("paints", this.tool === "brush" || this.tool === "erase");
    canvas.classList.toggle("drags", this.tool === "drag");
    byId("toggle-slice").firstChild.textContent = off ? "Slice on " : "Slice off ";
    byId("undo").disabled = !scan.undo.length;
    byId("redo").disabled = !scan.redo.length;
    document.body.dataset.frame = String(scan.frame);
    document.body.dataset.view = [this.view.x, this.view.y, s / ratio].join(" ");
    document.body.dataset.slice = String(scan.slice);
  }

  strip() {
    const scan = this.scan, strip = byId("strip");
    if (!scan?.state) return;
    const { ed, es } = scan.state;
    if (this.stripOf !== scan || strip.children.length !== 2 * scan.z) {
      this.stripOf = scan;
      strip.replaceChildren(...["ED", "ES"].flatMap((name) => scan.order.map((z, place) => {
        const button = document.createElement("button"), canvas = document.createElement("canvas"), text = document.createElement("span");
        button.type = "button";
        button.className = "thumb";
        button.dataset.phase = name;
        button.setAttribute("aria-label", `${name}, slice ${z}`);
        text.textContent = place ? `${z}` : `${name} ${z}${scan.info.base ? " base" : ""}`;
        button.addEventListener("click", () => this.goTo(name === "ED" ? scan.state.ed : scan.state.es, z));
        button.append(canvas, text);
        return button;
      })));
    }
    const room = strip.clientWidth / scan.z - 3;
    const side = Math.max(64, Math.min(Math.floor(room), Math.floor(window.innerHeight / 7.4)));
    strip.style.gridTemplateColumns = `repeat(${scan.z}, ${side}px)`;
    const [x, y, box] = scan.heart(), ratio = window.devicePixelRatio || 1;
    [...strip.children].forEach((button, i) => {
      const z = scan.order[i % scan.z], t = i < scan.z ? ed : es, canvas = button.firstChild, size = Math.round(side * ratio);
      if (canvas.width !== size) { canvas.width = size; canvas.height = size; }
      const s = size / box;
      this.render(canvas, t, z, s, -x * s, -y * s, ratio);
      button.setAttribute("aria-current", String(z === scan.slice && t === scan.frame));
      button.classList.toggle("changed", scan.undo.some((entry) => entry.some(([a, b]) => a === t && b === z)));
    });
  }

  curve() {
    const scan = this.scan, canvas = byId("curve");
    if (!scan?.state || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const c = canvas.getContext("2d"), { lv, rv } = scan.state.curves, { ed, es } = scan.state;
    const left = 36 * ratio, right = canvas.width - 10 * ratio, top = 16 * ratio, base = canvas.height - 16 * ratio;
    const most = Math.max(1e-9, ...[...lv, ...rv].filter((v) => v !== null));
    const x = (t) => left + ((right - left) * t) / Math.max(1, scan.t - 1);
    const y = (v) => base - ((base - top) * v) / most;
    c.font = `${11 * ratio}px system-ui, sans-serif`;
    c.fillStyle = c.strokeStyle = "#a9b1bc";
    c.lineWidth = ratio;
    c.beginPath();
    c.moveTo(left, top); c.lineTo(left, base); c.lineTo(right, base);
    c.stroke();
    c.textAlign = "right";
    const isVolume = most > 1.001;
    c.fillText(isVolume ? `${Math.round(most)}` : "max", left - 4 * ratio, top + 4 * ratio);
    c.fillText("0", left - 4 * ratio, base);
    if (isVolume) c.fillText("mL", left - 4 * ratio, (top + base) / 2);
    c.textAlign = "left";
    c.fillText(`frame ${scan.number(scan.frame)}`, left, canvas.height - 3 * ratio);
    for (const [values, colour, dash] of [[rv, STRUCTURES.rv.colour, [4, 3]], [lv, STRUCTURES.endo.colour, []]]) {
      c.beginPath();
      let pen = false;
      values.forEach((v, t) => {
        if (v === null) { pen = false; return; }
        if (pen) c.lineTo(x(t), y(v)); else c.moveTo(x(t), y(v));
        pen = true;
      });
      c.setLineDash(dash.map((d) => d * ratio));
      c.strokeStyle = colour;
      c.lineWidth = 1.8 * ratio;
      c.stroke();
    }
    c.setLineDash([]);
    c.textAlign = "center";
    for (const [name, t] of [["ED", this.moving?.name === "ed" ? this.moving.t : ed], ["ES", this.moving?.name === "es" ? this.moving.t : es]]) {
      c.strokeStyle = c.fillStyle = "#8ab4ff";
      c.beginPath();
      c.moveTo(x(t), top - 3 * ratio); c.lineTo(x(t), base);
      c.stroke();
      c.fillText(name, Math.max(left + 8 * ratio, x(t)), top - 5 * ratio);
    }
    c.strokeStyle = "#ffffff";
    c.lineWidth = ratio;
    c.beginPath();
    c.moveTo(x(scan.frame), top); c.lineTo(x(scan.frame), base);
    c.stroke();
    canvas.setAttribute("aria-label", `Volume curve. ED at frame ${scan.number(ed)}, ES at frame ${scan.number(es)}, shown frame ${scan.number(scan.frame)}.`);
    this.curveFrame = (event) => {
      const box = canvas.getBoundingClientRect(), at = (event.clientX - box.left) * ratio;
      return Math.max(0, Math.min(scan.t - 1, Math.round(((at - left) / (right - left)) * (scan.t - 1))));
    };
  }

  // ---------------------------------------------------------------- moving around

  goTo(t, z) {
    const scan = this.scan;
    this.play(false);
    scan.frame = t;
    scan.slice = z;
    this.fetchShown();
    this.redraw();
  }

  fetchShown() {
    const scan = this.scan;
    if (!scan.image(scan.frame, scan.slice) || !scan.slices.has(scan.slice)) {
      scan.cine(scan.slice).then(() => { if (this.scan === scan) this.draw(); }, (error) => this.parts.warn(error.message));
    }
  }

  step(frames, slices) {
    const scan = this.scan;
    scan.frame = (scan.frame + frames + scan.t) % scan.t;
    const place = Math.max(0, Math.min(scan.z - 1, scan.order.indexOf(scan.slice) + slices));
    scan.slice = scan.order[place];
    this.fetchShown();
    if (slices) this.redraw();
    else { this.draw(); this.curve(); this.mark(); }
  }

  mark() {
    const { scan } = this, { ed, es } = scan.state;
    [...byId("strip").children].forEach((button, i) => {
      const current = scan.order[i % scan.z] === scan.slice && (i < scan.z ? ed : es) === scan.frame;
      button.setAttribute("aria-current", String(current));
    });
  }

  play(on) {
    this.playing = on && this.scan?.t > 2;
    byId("play").setAttribute("aria-pressed", String(this.playing));
    if (!this.playing || this.running) return;
    this.running = true;
    let last = performance.now();
    const tick = (now) => {
      if (!this.playing || !this.scan) { this.running = false; return; }
      const gap = Math.max(20, this.scan.info.frame_ms || 40);
      if (now - last >= gap) {
        last = now - Math.min(gap, (now - last) % gap);
        this.step(1, 0);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  toggle(name) {
    this.show[name] = !this.show[name];
    if (name === "fill" && this.show.fill) this.show.contours = true;
    for (const id of ["contours", "fill", "compare"]) byId(id).setAttribute("aria-pressed", String(this.show[id]));
    if (this.show.compare) this.scan.loadModel().then(() => this.redraw(), (error) => this.parts.warn(error.message));
    this.redraw();
  }

  choose(tool) {
    this.tool = tool;
    for (const name of ["none", "drag", "brush", "erase"]) byId(`tool-${name}`).setAttribute("aria-pressed", String(name === tool));
    if (tool !== "none") this.play(false);
    this.draw();
  }

  // ---------------------------------------------------------------- editing by pointer and keys

  begin(at) {
    const scan = this.scan;
    this.play(false);
    const labels = scan.at(scan.frame, scan.slice);
    if (this.tool === "drag") {
      const grab = nearestContour(labels, scan.w, scan.h, at[0], at[1], Math.max(4, 14 / this.scale() * (window.devicePixelRatio || 1)));
      if (!grab) { this.parts.say("Grab a contour: there is none here."); return; }
      this.stroke = { grab, from: at, before: labels.slice() };
    } else {
      this.stroke = { from: at, before: labels.slice() };
      this.move(at);
    }
    this.stroke.t = scan.frame;
    this.stroke.z = scan.slice;
  }

  move(at) {
    const { scan, stroke } = this;
    if (stroke.grab) {
      const polygons = dragged(stroke.grab, at[0] - stroke.from[0], at[1] - stroke.from[1], 2.5 * this.size);
      const mask = filled(polygons, scan.w, scan.h);
      scan.replace(scan.frame, scan.slice, withStructure(stroke.before, mask, stroke.grab.which));
    } else {
      const now = scan.at(scan.frame, scan.slice).slice();
      paint(now, scan.w, scan.h, stroke.last ?? at, at, this.size, this.tool === "erase" ? 0 : this.structure);
      stroke.last = at;
      scan.replace(scan.frame, scan.slice, now);
    }
    this.draw();
  }

  end() {
    const { scan, stroke } = this;
    this.stroke = null;
    if (!stroke) return;
    const after = scan.at(stroke.t, stroke.z).slice();
    scan.replace(stroke.t, stroke.z, stroke.before);
    this.change([[stroke.t, stroke.z, after]]);
  }

  dropCursor() {
    if (!this.cursor) return false;
    if (this.stroke) this.end();
    this.cursor = null;
    this.draw();
    return true;
  }

  cursorKey(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const by = moves[event.key], far = event.shiftKey ? 5 : 1;
    if (by) {
      this.cursor = [this.cursor[0] + by[0] * far, this.cursor[1] + by[1] * far];
      if (this.stroke) this.move(this.cursor); else this.draw();
      return true;
    }
    if (event.key === "Enter" && this.tool !== "none") {
      if (this.stroke) this.end();
      else {
        this.begin(this.cursor);
        if (this.stroke && !this.stroke.grab) this.end();
      }
      return true;
    }
    return false;
  }

  key(event) {
    if (!this.scan) {
      const go = { n: 1, p: -1 }[event.key.toLowerCase()];
      if (go && this.broken !== null) this.parts.go(this.parts.next(this.broken, go));
      if (event.key.toLowerCase() === "r" && this.broken !== null) this.askReason();
      return;
    }
    const control = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (control && "szy".includes(key)) {
      event.preventDefault();
      if (key === "s") this.save();
      else if (key === "y" || event.shiftKey) this.back("redo", "undo", 3);
      else this.back("undo", "redo", 2);
      return;
    }
    if (control || event.altKey || (event.repeat && "arnptds".includes(key))) return;
    const onControl = event.target.matches("button, input[type=range], a");
    if (onControl && (key === " " || key === "Enter" || (event.target.type === "range" && key.startsWith("Arrow")))) return;
    if (this.cursor && this.cursorKey(event)) { event.preventDefault(); return; }
    const { scan } = this, { ed, es } = scan.state;
    const actions = {
      ArrowLeft: () => this.step(-1, 0), ArrowRight: () => this.step(1, 0),
      ArrowUp: () => this.step(0, -1), ArrowDown: () => this.step(0, 1), " ": () => this.play(!this.playing),
      e: () => this.goTo(scan.frame === ed ? es : ed, scan.slice),
      d: () => this.setFrames(scan.frame, es), s: () => this.setFrames(ed, scan.frame),
      c: () => this.toggle("contours"), f: () => this.toggle("fill"), m: () => this.toggle("compare"),
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => { this.fit(); this.draw(); },
      v: () => this.choose("none"), g: () => this.choose("drag"), b: () => this.choose("brush"), x: () => this.choose("erase"),
      1: () => this.setStructure(1), 2: () => this.setStructure(2), 3: () => this.setStructure(3),
      "[": () => this.setSize(this.size - 1), "]": () => this.setSize(this.size + 1),
      t: () => this.toggleSlice(), z: () => this.back("undo", "redo", 2), y: () => this.back("redo", "undo", 3),
      k: () => { this.cursor = this.cursor ? null : [Math.round(this.view.x), Math.round(this.view.y)]; this.draw(); this.canvas.focus(); },
      a: () => this.decide("accepted"), r: () => this.askReason(),
      n: () => this.parts.go(this.parts.next(scan.n, 1)), p: () => this.parts.go(this.parts.next(scan.n, -1, true)),
    };
    if (actions[key]) { event.preventDefault(); actions[key](); }
  }

  setStructure(value) {
    this.structure = value;
    byId("structure").value = String(value);
    this.draw();
  }

  setSize(value) {
    this.size = Math.max(1, Math.min(20, value));
    byId("size").value = String(this.size);
    this.draw();
  }

  askReason() {
    byId("other-reason").value = "";
    byId("reasons").querySelector("input").checked = true;
    byId("reject-dialog").showModal();
    byId("reasons").querySelector("input").focus();
  }

  reject() {
    const picked = byId("reasons").querySelector("input:checked")?.value ?? "";
    const reason = picked || byId("other-reason").value.trim();
    if (!reason) { byId("other-reason").focus(); return; }
    byId("reject-dialog").close();
    this.decide("rejected", reason);
  }

  listen() {
    const on = (id, action) => byId(id).addEventListener("click", () => { if (this.scan) action(); });
    on("play", () => this.play(!this.playing));
    for (const name of ["contours", "fill", "compare"]) on(name, () => this.toggle(name));
    on("zoom-in", () => this.zoom(1.25)); on("zoom-out", () => this.zoom(0.8));
    on("zoom-fit", () => { this.fit(); this.draw(); });
    for (const name of ["none", "drag", "brush", "erase"]) on(`tool-${name}`, () => this.choose(name));
    on("undo", () => this.back("undo", "redo", 2)); on("redo", () => this.back("redo", "undo", 3));
    on("toggle-slice", () => this.toggleSlice()); on("restore-slice", () => this.restoreSlice());
    on("restore-all", () => { if (window.confirm("Discard all edits of this scan?")) this.restoreAll(); });
    on("go-ed", () => this.goTo(this.scan.state.ed, this.scan.slice));
    on("go-es", () => this.goTo(this.scan.state.es, this.scan.slice));
    on("set-ed", () => this.setFrames(this.scan.frame, this.scan.state.es));
    on("set-es", () => this.setFrames(this.scan.state.ed, this.scan.frame));
    on("auto-phases", () => this.setFrames(null, null));
    on("accept", () => this.decide("accepted")); on("reopen", () => this.decide("reopened")); on("save", () => this.save());
    byId("reject").addEventListener("click", () => this.askReason());
    byId("next").addEventListener("click", () => this.parts.go(this.parts.next(this.opening, 1)));
    byId("previous").addEventListener("click", () => this.parts.go(this.parts.next(this.opening, -1, true)));
    byId("decide").addEventListener("submit", (event) => event.preventDefault());
    byId("comment").addEventListener("input", () => { if (this.scan) this.scan.info.comment = byId("comment").value; });
    byId("reject-yes").addEventListener("click", () => this.reject());
    byId("reject-no").addEventListener("click", () => byId("reject-dialog").close());
    byId("reject-dialog").addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.tagName === "INPUT") { event.preventDefault(); this.reject(); } });
    byId("structure").addEventListener("change", () => { this.setStructure(Number(byId("structure").value)); this.canvas.focus(); });
    byId("size").addEventListener("input", () => this.setSize(Number(byId("size").value)));
    for (const id of ["level", "width"]) byId(id).addEventListener("input", () => { this.window[id] = Number(byId(id).value); if (this.scan) this.redraw(); });
    REASONS.forEach((reason, i) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "reason", value: reason, checked: i === 0 });
      label.append(input, reason || "another one:");
      byId("reasons").append(label);
    });
    const others = byId("reasons").querySelectorAll("input"), other = others[others.length - 1];
    byId("other-reason").addEventListener("input", () => { other.checked = true; });
    this.pointers();
  }

  pointers() {
    const { canvas } = this;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.scan) return;
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      this.cursor = null;
      const at = this.toImage(event);
      if (event.button === 0 && this.tool !== "none") this.begin(at);
      else this.held = { button: event.button, x: event.clientX, y: event.clientY, window: { ...this.window }, view: { ...this.view } };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.scan) return;
      this.pointer = this.toImage(event);
      if (this.stroke) this.move(this.pointer);
      else if (this.held) this.pull(event);
      else if (this.tool === "brush" || this.tool === "erase") this.draw();
    });
    const stop = () => { if (this.stroke && !this.cursor) this.end(); if (this.held?.button === 2) this.redraw(); this.held = null; };
    canvas.addEventListener("pointerup", stop);
    canvas.addEventListener("pointercancel", stop);
    canvas.addEventListener("pointerleave", () => { if (!this.stroke) { this.pointer = null; this.draw(); } });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (!this.scan) return;
      if (event.ctrlKey) this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      else this.step(0, event.deltaY > 0 ? 1 : -1);
    }, { passive: false });
    const curve = byId("curve");
    curve.addEventListener("pointerdown", (event) => {
      if (!this.scan) return;
      this.play(false);
      const t = this.curveFrame(event), { ed, es } = this.scan.state;
      const name = Math.abs(t - ed) <= 1 ? "ed" : Math.abs(t - es) <= 1 ? "es" : null;
      curve.setPointerCapture(event.pointerId);
      this.moving = { name: this.scan.info.is_pair ? null : name, t, from: t };
      this.goTo(t, this.scan.slice);
    });
    curve.addEventListener("pointermove", (event) => {
      if (!this.moving) return;
      this.moving.t = this.curveFrame(event);
      this.scan.frame = this.moving.t;
      this.fetchShown();
      this.draw();
      this.curve();
    });
    curve.addEventListener("pointerup", () => {
      const { moving } = this;
      this.moving = null;
      if (!moving) return;
      const { ed, es } = this.scan.state;
      if (moving.name && moving.t !== moving.from) this.setFrames(moving.name === "ed" ? moving.t : ed, moving.name === "es" ? moving.t : es);
      else this.redraw();
    });
  }

  // Dragging without a tool: the left or middle button moves the image, the right one its window.
  pull(event) {
    const { held } = this, dx = event.clientX - held.x, dy = event.clientY - held.y;
    if (held.button === 2) {
      this.window.width = Math.max(8, Math.min(384, held.window.width + dx));
      this.window.level = Math.max(0, Math.min(255, held.window.level + dy / 2));
      byId("width").value = String(this.window.width);
      byId("level").value = String(this.window.level);
    } else {
      const s = this.scale() / (this.canvas.width / this.canvas.getBoundingClientRect().width);
      this.view.x = held.view.x - dx / s;
      this.view.y = held.view.y - dy / s;
    }
    this.draw();
  }
}
