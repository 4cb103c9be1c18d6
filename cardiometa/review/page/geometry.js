// Labels as contours and back: outlines between pixel centres, loops, polygons, brush.
// Coordinates are of pixel centres: x to the right, y down, the first pixel at (0, 0).

// What each contour encloses; the colours are those of the report.
export const STRUCTURES = {
  endo: { name: "LV endocardium", colour: "#ff5c50", has: (v) => v === 1 },
  epi: { name: "LV epicardium", colour: "#46d6f0", has: (v) => v === 1 || v === 2 },
  rv: { name: "RV endocardium", colour: "#ffd633", has: (v) => v === 3 },
};
export const LABEL_COLOURS = [[0, 0, 0, 0], [255, 92, 80, 90], [70, 214, 240, 90], [255, 214, 51, 90]];

// The box [x0, y0, x1, y1] of all labels, null where there are none.
export function boxOf(labels, w, h) {
  let x0 = w, y0 = h, x1 = -1, y1 = -1;
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) {
      if (labels[i]) {
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
        if (y < y0) y0 = y;
        y1 = y;
      }
    }
  }
  return x1 < 0 ? null : [x0, y0, x1, y1];
}

// Segments [xa, ya, xb, yb, …] around the pixels of a structure: marching squares on the centres.
export function outline(labels, w, h, has) {
  const box = boxOf(labels, w, h);
  const found = [];
  if (!box) return found;
  const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h && has(labels[y * w + x]);
  for (let y = box[1] - 1; y <= box[3]; y++) {
    for (let x = box[0] - 1; x <= box[2]; x++) {
      const kind = inside(x, y) | (inside(x + 1, y) << 1) | (inside(x + 1, y + 1) << 2) | (inside(x, y + 1) << 3);
      if (kind === 0 || kind === 15) continue;
      const top = [x + 0.5, y], right = [x + 1, y + 0.5], bottom = [x + 0.5, y + 1], left = [x, y + 0.5];
      const add = (a, b) => found.push(a[0], a[1], b[0], b[1]);
      if (kind === 5) { add(left, top); add(right, bottom); }
      else if (kind === 10) { add(top, right); add(bottom, left); }
      else {
        const cut = [];
        if ((kind & 1) !== ((kind >> 1) & 1)) cut.push(top);
        if (((kind >> 1) & 1) !== ((kind >> 2) & 1)) cut.push(right);
        if (((kind >> 2) & 1) !== ((kind >> 3) & 1)) cut.push(bottom);
        if (((kind >> 3) & 1) !== (kind & 1)) cut.push(left);
        add(cut[0], cut[1]);
      }
    }
  }
  return found;
}

// The segments of an outline as closed loops of points.
export function loops(segments) {
  const ends = new Map();
  const key = (x, y) => 2 * x + 16384 * (2 * y);
  for (let i = 0; i < segments.length; i += 4) {
    for (const j of [0, 2]) {
      const k = key(segments[i + j], segments[i + j + 1]);
      if (!ends.has(k)) ends.set(k, []);
      ends.get(k).push(i);
    }
  }
  const used = new Set();
  const found = [];
  for (let i = 0; i < segments.length; i += 4) {
    if (used.has(i)) continue;
    const loop = [];
    let at = i, x = segments[i], y = segments[i + 1];
    while (at !== undefined) {
      used.add(at);
      loop.push([x, y]);
      const first = segments[at] === x && segments[at + 1] === y;
      x = segments[at + (first ? 2 : 0)];
      y = segments[at + (first ? 3 : 1)];
      at = ends.get(key(x, y)).find((s) => !used.has(s));
    }
    if (loop.length > 2) found.push(loop);
  }
  return found;
}

// A loop without the steps of its pixels, for display: no point moves by more than half a pixel.
// A speck of few pixels would shrink to nothing and stays as it is.
export function smoothed(loop) {
  if (loop.length < 16) return loop;
  let points = loop;
  for (let pass = 0; pass < 2; pass++) {
    const n = points.length, from = points;
    points = from.map(([x, y], i) => {
      const [xa, ya] = from[(i + n - 1) % n], [xb, yb] = from[(i + 1) % n];
      return [(xa + 2 * x + xb) / 4, (ya + 2 * y + yb) / 4];
    });
  }
  return points;
}

// Pixels whose centre lies in an odd number of polygons.
export function filled(polygons, w, h) {
  const mask = new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    const cuts = [];
    for (const points of polygons) {
      for (let i = 0; i < points.length; i++) {
        const [xa, ya] = points[i], [xb, yb] = points[(i + 1) % points.length];
        if ((ya > y) !== (yb > y)) cuts.push(xa + ((y - ya) * (xb - xa)) / (yb - ya));
      }
    }
    cuts.sort((a, b) => a - b);
    for (let i = 0; i + 1 < cuts.length; i += 2) {
      const from = Math.max(0, Math.ceil(cuts[i])), to = Math.min(w - 1, Math.ceil(cuts[i + 1]) - 1);
      for (let x = from; x <= to; x++) mask[y * w + x] = 1;
    }
  }
  return mask;
}

// Labels after a structure was given a new mask: the wall follows the cavity, the RV gives way.
export function withStructure(before, mask, which) {
  const after = before.slice();
  for (let i = 0; i < after.length; i++) {
    const v = before[i];
    if (which === "endo") {
      if (mask[i]) after[i] = 1;
      else if (v === 1) after[i] = 2;
    } else if (which === "epi") {
      if (mask[i]) { if (v !== 1) after[i] = 2; } else if (v === 1 || v === 2) after[i] = 0;
    } else if (mask[i]) { if (v === 0) after[i] = 3; } else if (v === 3) after[i] = 0;
  }
  return after;
}

// The contour point nearest to (x, y): its structure, loops, and which point; null beyond `most`.
export function nearestContour(labels, w, h, x, y, most) {
  let best = null, least = most * most;
  for (const which of ["endo", "epi", "rv"]) {
    const all = loops(outline(labels, w, h, STRUCTURES[which].has));
    all.forEach((points, loop) => {
      points.forEach(([px, py], point) => {
        const d = (px - x) ** 2 + (py - y) ** 2;
        if (d < least) { least = d; best = { which, loops: all, loop, point }; }
      });
    });
  }
  return best;
}

// The loops after the grabbed point was moved by (dx, dy), its neighbours less the further they are.
export function dragged(grab, dx, dy, reach) {
  const points = grab.loops[grab.loop], n = points.length;
  const along = [0];
  for (let i = 1; i <= n; i++) {
    const [xa, ya] = points[i - 1], [xb, yb] = points[i % n];
    along.push(along[i - 1] + Math.hypot(xb - xa, yb - ya));
  }
  const total = along[n];
  const moved = points.map(([x, y], i) => {
    const direct = Math.abs(along[i] - along[grab.point]);
    const d = Math.min(direct, total - direct) / reach;
    const weight = Math.exp(-0.5 * d * d);
    return [x + weight * dx, y + weight * dy];
  });
  return grab.loops.map((loop, i) => (i === grab.loop ? moved : loop));
}

// Paint `value` within `radius` of the line from one point to another.
export function paint(labels, w, h, from, to, radius, value) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(0.5, radius / 2)));
  for (let s = 0; s <= steps; s++) {
    const cx = from[0] + ((to[0] - from[0]) * s) / steps, cy = from[1] + ((to[1] - from[1]) * s) / steps;
    const y0 = Math.max(0, Math.ceil(cy - radius)), y1 = Math.min(h - 1, Math.floor(cy + radius));
    const x0 = Math.max(0, Math.ceil(cx - radius)), x1 = Math.min(w - 1, Math.floor(cx + radius));
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        if ((x - cx) ** 2 + (y - cy) ** 2 <= radius * radius) labels[y * w + x] = value;
      }
    }
  }
}
