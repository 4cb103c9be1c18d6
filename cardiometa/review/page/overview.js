// The table of all scans: filters, sort, the queue; rows are made only where they are seen.
import { getJson } from "./server.js";

const ROW = 28;
const byId = (id) => document.getElementById(id);
const shown = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));

export class Overview {
  constructor(open) {
    this.open = open;
    this.rows = []; this.list = []; this.active = 0;
    this.sort = { name: "priority", down: true };
    this.grid = byId("grid");
    this.grid.addEventListener("scroll", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(this.grid);
    this.grid.addEventListener("keydown", (event) => this.key(event));
    for (const id of ["f-text", "f-trial", "f-status", "f-flag", "f-quality", "f-decision"]) {
      byId(id).addEventListener("input", () => this.filter());
    }
    byId("filters").addEventListener("submit", (event) => { event.preventDefault(); this.start(); });
    byId("start").addEventListener("click", () => this.start());
  }

  async load() {
    const table = await getJson("api/scans");
    Object.assign(this, { blind: table.blind, measure: table.measure, unit: table.unit, rows: table.rows });
    byId("who").textContent = `Reader ${table.reader}${table.blind ? ", blind" : ""}`;
    byId("f-text").placeholder = table.blind ? "case" : "participant";
    document.querySelectorAll("#filters .open").forEach((e) => { e.hidden = table.blind; });
    this.columns = table.blind
      ? [["n", "Case", "1fr", (r) => r.name], ["decision", "Decision", "12em", (r) => this.decision(r)]]
      : [
          ["priority", "Queue", "5.5em", (r) => String(r.rank), true],
          ["trial", "Trial", "minmax(6em,1fr)", (r) => r.trial],
          ["participant_id", "Participant", "minmax(8em,1.4fr)", (r) => r.participant_id],
          ["visit", "Visit", "minmax(7em,1fr)", (r) => r.visit],
          ["status", "Status", "6em", (r) => r.status],
          ["quality", "Quality", "5.5em", (r) => shown(r.quality, 2), true],
          ["value", this.title(), "10em", (r) => shown(r.value, 1) + (r.sd === null ? "" : ` ± ${shown(r.sd, 1)}`), true],
          ["flags", "Flags", "minmax(10em,3fr)", (r) => r.flags.join(", ")],
          ["decision", "Decision", "12em", (r) => this.decision(r)],
          ["readers", "Others", "minmax(6em,1fr)", (r) => r.readers.join(", ")],
        ];
    if (!table.blind) {
      [...this.rows].sort((a, b) => b.priority - a.priority).forEach((r, i) => { r.rank = i + 1; });
    } else if (this.sort.name === "priority") this.sort = { name: "n", down: false };
    this.head();
    this.choices();
    this.update(table.rule);
  }

  title() {
    return { lv_ef_percent: "LV EF (%)" }[this.measure] ?? this.measure;
  }

  decision(row) {
    if (row.decision) return row.decision + (row.saved ? ", changed since" : "");
    return row.saved ? "saved, open" : "";
  }

  head() {
    const head = byId("head");
    head.replaceChildren();
    head.style.gridTemplateColumns = this.template = this.columns.map((c) => c[2]).join(" ");
    for (const [name, title, , , right] of this.columns) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "columnheader");
      const button = document.createElement("button");
      const is = this.sort.name === name;
      button.type = "button";
      button.textContent = title + (is ? (this.sort.down ? " ▾" : " ▴") : "");
      cell.setAttribute("aria-sort", is ? (this.sort.down ? "descending" : "ascending") : "none");
      if (right) cell.className = "number";
      button.addEventListener("click", () => {
        this.sort = { name, down: is ? !this.sort.down : ["priority", "readers", "flags"].includes(name) };
        this.head();
        this.filter();
      });
      cell.append(button);
      head.append(cell);
    }
  }

  choices() {
    const fill = (id, values, any) => {
      const select = byId(id), before = select.value;
      select.replaceChildren(new Option(any, ""), ...values.map((v) => new Option(v, v)));
      select.value = values.includes(before) ? before : "";
    };
    const of = (name) => [...new Set(this.rows.flatMap((r) => r[name] ?? []))].filter(Boolean).sort();
    fill("f-trial", of("trial"), "all");
    fill("f-status", of("status"), "all");
    fill("f-flag", of("flags"), "any");
    fill("f-decision", ["left", "decided", "accepted", "edited", "rejected", "saved, open", "changed since"], "all");
  }

  update(rule) {
    if (rule !== undefined) byId("rule").textContent = rule;
    const done = this.rows.filter((r) => r.decision).length;
    byId("progress").textContent = `${done.toLocaleString()} of ${this.rows.length.toLocaleString()} reviewed`;
    this.filter();
  }

  filter() {
    const text = byId("f-text").value.trim().toLowerCase(), decision = byId("f-decision").value;
    const trial = byId("f-trial").value, status = byId("f-status").value, flag = byId("f-flag").value;
    const quality = parseFloat(byId("f-quality").value);
    const here = this.list[this.active];
    this.list = this.rows.filter((r) => {
      if (text && !r.name.toLowerCase().includes(text)) return false;
      if (trial && r.trial !== trial) return false;
      if (status && r.status !== status) return false;
      if (flag && !r.flags.includes(flag)) return false;
      if (!Number.isNaN(quality) && !(r.quality === null || r.quality < quality)) return false;
      if (decision === "left") return !r.decision;
      if (decision === "decided") return Boolean(r.decision);
      if (decision === "changed since") return Boolean(r.decision && r.saved);
      return !decision || r.decision === decision || this.decision(r) === decision;
    });
    const { name, down } = this.sort, sign = down ? -1 : 1;
    const value = (r) => { const v = r[name]; return Array.isArray(v) ? v.length : (v ?? (down ? -Infinity : Infinity)); };
    this.list.sort((a, b) => {
      const x = value(a), y = value(b);
      return (x < y ? -sign : x > y ? sign : 0) || a.n - b.n;
    });
    this.active = Math.max(0, this.list.indexOf(here));
    const left = this.list.filter((r) => !r.decision).length;
    byId("shown").textContent = `${this.list.length.toLocaleString()} shown, ${left.toLocaleString()} left`;
    this.grid.setAttribute("aria-rowcount", String(this.list.length + 1));
    this.paint();
  }

  paint() {
    if (!this.columns) return;
    const rows = byId("rows");
    rows.style.height = `${this.list.length * ROW}px`;
    const first = Math.max(0, Math.floor(this.grid.scrollTop / ROW) - 4);
    const last = Math.min(this.list.length, first + Math.ceil(this.grid.clientHeight / ROW) + 8);
    const made = [];
    for (let i = first; i < last; i++) made.push(this.row(i));
    rows.replaceChildren(...made);
    this.grid.setAttribute("aria-activedescendant", this.list.length ? `row-${this.active}` : "");
  }

  row(i) {
    const row = this.list[i], element = document.createElement("div");
    element.className = `row${i === this.active ? " active" : ""}`;
    element.id = `row-${i}`;
    element.setAttribute("role", "row");
    element.setAttribute("aria-rowindex", String(i + 2));
    element.setAttribute("aria-selected", String(i === this.active));
    element.style.top = `${i * ROW}px`;
    element.style.gridTemplateColumns = this.template;
    for (const [name, , , text, right] of this.columns) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      cell.textContent = text(row);
      cell.title = cell.textContent;
      if (right) cell.className = "number";
      if (name === "status" || name === "decision") cell.classList.add(row[name] || "none");
      element.append(cell);
    }
    element.addEventListener("click", () => { this.active = i; this.open(row.n); });
    return element;
  }

  key(event) {
    if (event.target !== this.grid) return;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / ROW) - 2), last = this.list.length - 1;
    const to = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page,
      PageUp: this.active - page, Home: 0, End: last,
    }[event.key];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this.active = Math.max(0, Math.min(last, to));
      const top = this.active * ROW, view = this.grid.clientHeight - ROW;
      if (top < this.grid.scrollTop) this.grid.scrollTop = top;
      if (top + ROW > this.grid.scrollTop + view) this.grid.scrollTop = top + 2 * ROW - view;
      this.paint();
    } else if (event.key === "Enter" && last >= 0) {
      event.preventDefault();
      this.open(this.list[this.active].n);
    }
  }

  start() {
    const next = this.list.find((r) => !r.decision) ?? this.list[0];
    if (next) this.open(next.n);
  }

  // The next scan of the list that has no decision, or the neighbour where `any`.
  neighbour(n, step, any = false) {
    const at = this.list.findIndex((r) => r.n === n), count = this.list.length;
    for (let k = 1; k <= count; k++) {
      const row = this.list[(((at + step * k) % count) + count) % count];
      if (row && row.n !== n && (any || !row.decision)) return row.n;
    }
    return null;
  }

  set(n, changes, rule) {
    const row = this.rows.find((r) => r.n === n);
    if (row) Object.assign(row, changes);
    this.update(rule);
  }
}
