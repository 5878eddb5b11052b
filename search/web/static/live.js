// Updates the open page of a search: its charts and its changing parts, from the server's events.
(() => {
  const live = document.getElementById("live");
  const at = (name) => document.getElementById(name);
  const { address } = live.dataset;
  const newest = at("newest");
  const DRAWN_MS = 250, OTHERS_MS = 5000, PARALLEL_MS = 10000;

  let told = null; // all data of the charts
  let number = 0; // number of the last event included in `told`
  let seen = live.dataset.version; // version of the search that the parts show
  const isOver = live.dataset.stand === "over"; // no more events follow, unless it is resumed
  let drawing = 0, parallelAt = 0;
  let shown = []; // trials whose lines have their own colour
  const before = new Map(); // HTML of each part as last received

  const better = (value, other) => other == null || (told.metric.mode === "max" ? value > other : value < other);

  // Convert a trial of the server's JSON to an entry of a Map: parameters, best value, curve.
  const trial = ([name, params, value, epochs, values]) => [name, { params, value: value ?? null, epochs: epochs ?? [], values: values ?? [] }];

  const byTime = charts.courseChart(at("by-time"), ["best so far"], 0, () => told.metric);
  const byEpochs = charts.courseChart(at("by-epochs"), ["best so far"], 1, () => told.metric);
  const byEpoch = new charts.Chart(at("by-epoch"), () => ({
    series: shown.map((name, place) => ({ label: name, stroke: charts.lineColour(place), width: place ? 1.5 : 2.5, spanGaps: true, points: { show: alone } })),
    y: { range: reach },
    hooks: { drawAxes: [drawOthers] },
  }));
  const lines = at("parallel") && parallel(at("parallel"), at("pointed"));
  const parallelView = lines ? charts.seen(at("parallel"), () => drawParallel()) : { isSeen: false };

  // The worst quarter of the trials may lie outside the chart, so that good ones are distinguishable.
  function reach() {
    const values = [...told.trials.values()].map((one) => one.value).filter((value) => value != null).sort((a, b) => (better(a, b) ? -1 : 1));
    if (!values.length) return charts.reach(told.metric);
    const own = told.trials.get(shown[0])?.values ?? [];
    const ends = [values[0], values[Math.floor((values.length - 1) * 0.75)], ...own];
    return charts.reach(told.metric, Math.min(...ends), Math.max(...ends));
  }

  // A single point has no line, so it needs a marker.
  const alone = (plot, series) => {
    const values = plot.data[series];
    return values.filter((value) => value != null).length === 1;
  };

  // The trials without their own colour are many and change little, so their picture is reused for
  // some seconds.
  let others = { canvas: null, key: "", until: 0 };

  function drawOthers(plot) {
    if (!at("crowd").checked) return;
    const { bbox, scales: { x, y } } = plot;
    const key = [bbox.width, bbox.height, x.min, x.max, y.min, y.max, shown, charts.colour("edge")].join();
    if (key !== others.key || performance.now() > others.until) {
      const canvas = new OffscreenCanvas(Math.max(1, bbox.width), Math.max(1, bbox.height));
      strokeOthers(canvas.getContext("2d"), bbox, x, y);
      others = { canvas, key, until: performance.now() + OTHERS_MS };
    }
    plot.ctx.drawImage(others.canvas, bbox.left, bbox.top);
  }

  function strokeOthers(pen, bbox, x, y) {
    const across = bbox.width / (x.max - x.min || 1), up = bbox.height / (y.max - y.min || 1);
    const own = new Set(shown);
    pen.strokeStyle = charts.colour("edge");
    pen.globalAlpha = Math.min(0.6, Math.max(0.12, 30 / told.trials.size));
    pen.lineWidth = devicePixelRatio;
    pen.beginPath();
    for (const [name, { epochs, values }] of told.trials) {
      if (own.has(name)) continue;
      for (let place = 0; place < epochs.length; place++) {
        const size = epochs.length === 1 ? 2 * devicePixelRatio : 0;
        const left = (epochs[place] - x.min) * across, top = (y.max - values[place]) * up;
        if (place) pen.lineTo(left, top);
        else pen.moveTo(left, top);
        if (size) pen.rect(left - size / 2, top - size / 2, size, size);
      }
    }
    pen.stroke();
  }

  function curves() {
    let last = 1;
    for (const { epochs } of told.trials.values()) if (epochs.length) last = Math.max(last, epochs[epochs.length - 1]);
    const across = Array.from({ length: last }, (_, place) => place + 1);
    const columns = shown.map((name) => {
      const column = new Array(last).fill(null);
      const { epochs, values } = told.trials.get(name);
      epochs.forEach((epoch, place) => { column[epoch - 1] = values[place]; });
      return column;
    });
    return [across, ...columns];
  }

  function draw() {
    drawing = 0;
    if (!told || !told.course.length) return;
    const top = told.top.filter((name) => told.trials.has(name));
    byTime.set(charts.courses([told], 0));
    byEpochs.set(charts.courses([told], 1));
    if (top.join() === shown.join()) byEpoch.set(curves());
    else {
      shown = top;
      byEpoch.data = curves();
      byEpoch.draw();
    }
    drawParallel();
  }

  function drawParallel() {
    if (!told || !parallelView.isSeen || performance.now() < parallelAt) return;
    parallelAt = performance.now() + PARALLEL_MS;
    lines(told);
  }

  function soon() {
    drawing ||= setTimeout(() => requestAnimationFrame(draw), DRAWN_MS);
  }

  function hear({ points, trials, course }) {
    for (const one of trials) if (!told.trials.has(one[0])) told.trials.set(...trial(one));
    for (const [name, epoch, value, seconds, epochs] of points) {
      const one = told.trials.get(name);
      if (!one) continue;
      const { epochs: known } = one;
      const place = known.length && known[known.length - 1] >= epoch ? known.indexOf(epoch) : known.length;
      if (place >= 0) [known[place], one.values[place]] = [epoch, value];
      if (better(value, one.value)) one.value = value;
      [told.seconds, told.epochs] = [seconds, epochs];
      newest.textContent = `${name} finished epoch ${epoch}: ${charts.figure(value)}`;
    }
    if (course) told.course = course;
    soon();
  }

  // A part in which the user is selecting text or an option is not replaced until the next update.
  function replace(name, text) {
    const part = at(name), selection = getSelection();
    if (before.get(name) === text || (part.matches("select") && part === document.activeElement)) return;
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    before.set(name, text);
    const left = part.querySelector(".box")?.scrollLeft;
    part.innerHTML = text;
    if (left) part.querySelector(".box").scrollLeft = left;
    charts.localise(part);
    htmx.process(part);
    if (focused) at(focused)?.focus({ preventScroll: true });
  }

  function hearParts({ parts, top, stand, version }) {
    seen = version;
    if (stand !== live.dataset.stand) return location.reload();
    for (const [name, text] of Object.entries(parts)) replace(name, text);
    told.top = top;
    soon();
  }

  const say = (text) => { newest.textContent = text; };
  const stream = events.stream(
    () => `${address}/events${location.search ? `${location.search}&` : "?"}after=${number}&seen=${seen}`,
    {
      epochs: (event) => {
        number = +event.lastEventId;
        hear(JSON.parse(event.data));
      },
      parts: (event) => hearParts(JSON.parse(event.data)),
    },
    begin,
    say,
  );

  async function begin() {
    stream.close();
    const found = await events.known(`${address}/charts`, say, begin);
    if (!found) return;
    told = found;
    told.trials = new Map(told.trials.map(trial));
    number = told.number;
    [shown, parallelAt] = [[], 0];
    say("\u00a0");
    draw();
    if (!isOver) stream.open();
  }

  // A finished search has no event stream; the panel of actions still polls, and shows when a
  // driver continues it.
  if (isOver) {
    document.body.addEventListener("htmx:afterSettle", () => {
      const { stand } = at("steer-news")?.dataset ?? live.dataset;
      if (stand !== live.dataset.stand) location.reload();
    });
  }

  at("crowd").addEventListener("change", () => byEpoch.plot?.redraw());
  document.body.addEventListener("htmx:pushedIntoHistory", () => {
    before.clear();
    if (!isOver && told) stream.open();
  });
  charts.localise(document);
  begin();
})();
