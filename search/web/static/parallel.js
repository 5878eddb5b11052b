// Parallel coordinates, with a line for each trial. Each parameter has an axis, and the last axis, at
// the right, is for the metric. Of equally good trials, the first in the table is the best here too.
function parallel(box, pointed) {
  const canvas = document.createElement("canvas");
  const HEIGHT = 340, TOP = 34, BOTTOM = 24, SIDE = 46, NEAR = 8, STEPS = 12;
  let axes = [], rows = [], metric = { mode: "max", title: "" };
  let hovered = -1, dragged = null;
  const kept = new Map(); // maps an axis to the range of positions (0 to 1) that lines must pass through

  // Labelled values of an axis, and the position of each value from 0 (bottom) to 1 (top).
  function scale(values, isLog, isChoice) {
    const known = [...new Set(values.filter((value) => value !== null))];
    const areNumbers = known.every((value) => typeof value === "number");
    if (areNumbers && !isChoice && known.length > 1) {
      const bent = isLog && known.every((value) => value > 0) ? Math.log : (value) => value;
      const [low, high] = [Math.min(...known.map(bent)), Math.max(...known.map(bent))];
      return { ticks: [Math.min(...known), Math.max(...known)], place: (value) => (value === null ? -0.08 : (bent(value) - low) / (high - low || 1)) };
    }
    known.sort((a, b) => (isNaN(a) || isNaN(b) ? String(a).localeCompare(b) : a - b));
    const at = new Map(known.map((value, number) => [value, known.length > 1 ? number / (known.length - 1) : 0.5]));
    return { ticks: known, place: (value) => (value === null ? -0.08 : at.get(value)) };
  }

  function set(told) {
    metric = told.metric;
    const trials = [...told.trials].filter(([, one]) => one.value !== null);
    const columns = told.axes.map((_, place) => trials.map(([, one]) => one.params[place] ?? null));
    const varied = told.axes.map((_, place) => place).filter((place) => new Set(columns[place]).size > 1);
    const values = trials.map(([, one]) => one.value);
    axes = [
      ...varied.map((place) => ({ title: told.axes[place][0], ...scale(columns[place], told.axes[place][1], told.axes[place][2]) })),
      { title: metric.title, ...scale(values, false, false) },
    ];
    const order = [...values].sort((a, b) => (metric.mode === "max" ? a - b : b - a));
    const rank = new Map(order.map((value, place) => [value, order.length > 1 ? place / (order.length - 1) : 1]));
    rows = trials.map(([name, one]) => {
      const own = [...varied.map((place) => one.params[place] ?? null), one.value];
      return { name, own, places: own.map((value, place) => axes[place].place(value)), rank: rank.get(one.value) };
    }).sort((a, b) => a.rank - b.rank || (b.name === told.top[0] ? -1 : 0) - (a.name === told.top[0] ? -1 : 0));
    draw();
  }

  const x = (place) => SIDE + (place * (canvas.clientWidth - 2 * SIDE)) / Math.max(1, axes.length - 1);
  const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM - 14) - 14;
  const isKept = (row) => [...kept].every(([axis, [low, high]]) => axis >= axes.length || (row.places[axis] >= low && row.places[axis] <= high));

  function draw() {
    const width = Math.max(box.clientWidth, axes.length * 84);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    [canvas.width, canvas.height] = [width * devicePixelRatio, HEIGHT * devicePixelRatio];
    const pen = canvas.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.lineJoin = "round";
    const [faint, strong, best, ink, soft] = ["edge", "accent", "answer", "ink", "soft"].map(charts.colour);
    // Lines of similar rank are drawn in one stroke, which is faster.
    for (let step = -1; step < STEPS; step++) {
      const some = rows.filter((row) => (isKept(row) ? Math.min(STEPS - 1, Math.floor(row.rank * STEPS)) : -1) === step);
      if (!some.length) continue;
      [pen.strokeStyle, pen.lineWidth] = [step < 0 ? faint : strong, 1.2];
      pen.globalAlpha = step < 0 ? 0.08 : 0.08 + 0.72 * ((step + 1) / STEPS) ** 3 * Math.min(1, 0.25 + 60 / rows.length);
      stroke(pen, some);
    }
    pen.globalAlpha = 1;
    const top = rows[rows.length - 1];
    if (top && isKept(top)) [pen.strokeStyle, pen.lineWidth] = [best, 2.4], stroke(pen, [top]);
    if (rows[hovered]) [pen.strokeStyle, pen.lineWidth] = [ink, 2.4], stroke(pen, [rows[hovered]]);
    pen.font = "12px system-ui, sans-serif";
    axes.forEach((axis, place) => {
      [pen.strokeStyle, pen.lineWidth, pen.fillStyle] = [soft, 1, ink];
      pen.beginPath();
      pen.moveTo(x(place), y(0));
      pen.lineTo(x(place), y(1));
      pen.stroke();
      pen.textAlign = place === 0 ? "left" : place === axes.length - 1 ? "right" : "center";
      const left = place === 0 ? 2 : place === axes.length - 1 ? canvas.clientWidth - 2 : x(place);
      pen.fillText(short(axis.title, 16), left, 14);
      pen.fillStyle = soft;
      const ticks = axis.ticks.length > 8 ? [axis.ticks[0], axis.ticks[axis.ticks.length - 1]] : axis.ticks;
      [pen.strokeStyle, pen.lineWidth] = [charts.colour("ground"), 4];
      for (const tick of ticks) {
        const text = short(typeof tick === "number" ? charts.figure(tick, 3) : tick, 12);
        pen.strokeText(text, left, y(axis.place(tick)) - 4);
        pen.fillText(text, left, y(axis.place(tick)) - 4);
      }
      if (kept.has(place)) {
        const [low, high] = kept.get(place);
        pen.globalAlpha = 0.25;
        pen.fillStyle = strong;
        pen.fillRect(x(place) - 7, y(high), 14, y(low) - y(high));
        pen.globalAlpha = 1;
      }
    });
  }

  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function stroke(pen, some) {
    const across = axes.map((_, place) => x(place));
    pen.beginPath();
    for (const { places } of some) places.forEach((share, place) => (place ? pen.lineTo(across[place], y(share)) : pen.moveTo(across[place], y(share))));
    pen.stroke();
  }

  // Index of the line nearest to the mouse, at most NEAR pixels away; -1 if there is none.
  function nearest(left, top) {
    const place = Math.min(axes.length - 2, Math.max(0, Math.floor(((left - SIDE) / (canvas.clientWidth - 2 * SIDE)) * (axes.length - 1))));
    const along = (left - x(place)) / (x(place + 1) - x(place));
    let found = -1, least = NEAR;
    rows.forEach((row, number) => {
      if (!isKept(row)) return;
      const away = Math.abs(y(row.places[place] + along * (row.places[place + 1] - row.places[place])) - top);
      if (away <= least) [found, least] = [number, away];
    });
    return found;
  }

  const share = (top) => Math.min(1.02, Math.max(-0.1, (HEIGHT - BOTTOM - 14 - top) / (HEIGHT - TOP - BOTTOM - 14)));
  const axisAt = (left) => axes.findIndex((_, place) => Math.abs(x(place) - left) < 12);

  canvas.addEventListener("pointerdown", (event) => {
    const axis = axisAt(event.offsetX);
    if (axis < 0) return;
    canvas.setPointerCapture(event.pointerId);
    dragged = { axis, from: share(event.offsetY) };
    kept.delete(axis);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged) {
      const ends = [dragged.from, share(event.offsetY)].sort((a, b) => a - b);
      if (ends[1] - ends[0] > 0.02) kept.set(dragged.axis, ends);
    } else {
      hovered = axes.length > 1 ? nearest(event.offsetX, event.offsetY) : -1;
      const row = rows[hovered];
      pointed.textContent = row ? `${row.name}: ${row.own.map((value, place) => `${axes[place].title} ${typeof value === "number" ? charts.figure(value) : value ?? "none"}`).join(", ")}` : "\u00a0";
    }
    requestAnimationFrame(draw);
  });
  canvas.addEventListener("pointerup", () => {
    dragged = null;
    draw();
  });
  canvas.addEventListener("pointerleave", () => {
    hovered = -1;
    draw();
  });
  new ResizeObserver(() => rows.length && draw()).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  box.replaceChildren(canvas);
  return set;
}
