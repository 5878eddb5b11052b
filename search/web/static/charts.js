// Charts drawn by uPlot, in the page's colours.
const charts = (() => {
  const LINES = ["answer", "line-1", "line-2", "line-3", "line-4", "line-5", "line-6", "line-7", "line-8", "line-9"];
  const TIMES = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000, 864000];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const all = new Set();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const lineColour = (place) => colour(LINES[place % LINES.length]);

  function duration(seconds) {
    if (seconds < 120) return `${+seconds.toFixed(1)} s`;
    if (seconds < 7200) return `${+(seconds / 60).toFixed(1)} min`;
    if (seconds < 172800) return `${+(seconds / 3600).toFixed(1)} h`;
    return `${+(seconds / 86400).toFixed(1)} days`;
  }

  const figure = (value, digits = 5) => (value == null ? "" : Math.abs(value) >= 1000 ? value.toFixed(0) : `${+value.toPrecision(digits)}`);

  // Calls `whenSeen` each time a box scrolls into view; `isSeen` of the result is always current.
  function seen(box, whenSeen) {
    const view = { isSeen: false };
    new IntersectionObserver((entries) => {
      view.isSeen = entries[entries.length - 1].isIntersecting;
      if (view.isSeen) whenSeen();
    }, { rootMargin: "100px" }).observe(box);
    return view;
  }

  // A chart that fills a box. `make` returns uPlot's series, scales and hooks; it is called again
  // when the system's colour scheme changes. New data is drawn only while the box is in view.
  class Chart {
    constructor(box, make) {
      [this.box, this.make, this.data, this.plot, this.isDue] = [box, make, null, null, false];
      this.height = Math.max(240, box.clientHeight);
      new ResizeObserver(() => this.plot?.setSize(this.size())).observe(box);
      this.view = seen(box, () => this.isDue && this.set(this.data));
      all.add(this);
    }

    size() {
      return { width: Math.max(220, this.box.clientWidth), height: this.height };
    }

    set(data) {
      this.data = data;
      this.isDue = !!this.plot && !this.view.isSeen;
      if (this.isDue) return;
      if (this.plot) this.plot.setData(data);
      else this.draw();
    }

    draw() {
      if (!this.data) return;
      this.plot?.destroy();
      this.box.replaceChildren();
      const { series, y = {}, hooks = {}, across = figure, title = "epoch", incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000, 100000] } = this.make();
      const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui, sans-serif" };
      this.plot = new uPlot({
        ...this.size(),
        series: [{ label: title, value: (_, x) => (x == null ? "" : across(x)) }, ...series.map((one) => ({ value: (_, value) => figure(value), points: { show: false }, ...one }))],
        scales: { x: { time: false }, y },
        axes: [{ ...axis, ...(incrs && { incrs }), values: (_, ticks) => ticks.map((value) => across(value)) }, { ...axis, size: 64, values: (_, ticks) => ticks.map((value) => figure(value)) }],
        cursor: { points: { size: 7 }, drag: { x: false, y: false } },
        hooks,
      }, this.data, this.box);
    }
  }

  dark.addEventListener("change", () => all.forEach((chart) => chart.draw()));

  // Converts the best values so far of several searches to uPlot's aligned columns, for stepped lines
  // that extend to the present. A record is [seconds, epochs, value]; `at` is 0 for an axis of
  // seconds, and 1 for an axis of epochs.
  function courses(searches, at) {
    const across = [...new Set(searches.flatMap((one) => [...one.course.map((record) => record[at]), at ? one.epochs : one.seconds]))].sort((a, b) => a - b);
    const columns = searches.map(({ course, seconds, epochs }) => {
      let place = 0, value = null;
      const end = at ? epochs : seconds;
      return across.map((x) => {
        while (place < course.length && course[place][at] <= x) value = course[place++][2];
        return x <= end ? value : null;
      });
    });
    return [across, ...columns];
  }

  // The range of an axis for values from `low` to `high`, clipped to the limits of the metric.
  function reach({ limits: [least, most] }, low, high) {
    if (low == null || high == null) return [least ?? 0, most ?? 1];
    const margin = (high - low) * 0.04 || Math.abs(high) * 0.1 || 0.1;
    return [Math.max(low - margin, least ?? -Infinity), Math.min(high + margin, most ?? Infinity)];
  }

  const stepped = () => uPlot.paths.stepped({ align: 1 });

  function courseChart(box, names, at, metric) {
    return new Chart(box, () => ({
      y: { range: (_, low, high) => reach(metric(), low, high) },
      series: names.map((name, place) => ({ label: name, stroke: lineColour(place), width: 2, paths: stepped() })),
      ...(at ? { title: "epochs" } : { title: "after", across: duration, incrs: TIMES }),
    }));
  }

  // Show times in the reader's time zone.
  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.textContent = at.toLocaleTimeString();
      time.title = at.toLocaleString();
    }
  }

  return { Chart, seen, colour, lineColour, courses, courseChart, reach, stepped, figure, duration, localise };
})();
