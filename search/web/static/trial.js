// Updates the open page of a trial: its curves and its changing part.
(() => {
  const live = document.getElementById("live"), at = (id) => document.getElementById(id);
  const { address, trial } = live.dataset;
  let told = null;

  const own = new charts.Chart(at("own"), () => ({
    y: { range: (_, low, high) => charts.reach(told.metric, low, high) },
    series: [{ label: told.metric.title, stroke: charts.colour("answer"), width: 2, points: { show: told.epochs.length < 60 } }],
  }));
  const losses = new charts.Chart(at("losses"), () => ({
    series: Object.keys(told.losses).map((label, place) => ({ label, stroke: charts.colour(place ? "line-1" : "edge"), width: 2, points: { show: told.epochs.length === 1 } })),
  }));

  async function draw() {
    const found = await events.known(`${address}/chart`, say, begin);
    if (!found) return false;
    told = found;
    if (told.epochs.length) {
      own.set([told.epochs, told.values]);
      losses.set([told.epochs, ...Object.values(told.losses)]);
    }
    return true;
  }

  const say = (text) => { at("newest").textContent = text; };
  const stream = events.stream(
    () => `${address}/events?after=${told.number}&seen=${live.dataset.version}`,
    {
      epochs: (event) => JSON.parse(event.data).points.some(([name]) => name === trial) && draw(),
      parts: (event) => {
        const { parts, stand } = JSON.parse(event.data);
        if (stand !== live.dataset.stand) return location.reload();
        at("now").innerHTML = parts.now;
      },
    },
    begin,
    say,
  );

  async function begin() {
    if (!(await draw())) return;
    say("\u00a0");
    if (live.dataset.over === undefined) stream.open();
  }

  begin();
})();
