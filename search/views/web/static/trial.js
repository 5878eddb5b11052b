// The page of a trial while it is open: its curves, and what changes.
(async () => {
  const live = document.getElementById("live"), at = (id) => document.getElementById(id);
  const { address, trial } = live.dataset;
  let told = null, source = null;

  const own = new charts.Chart(at("own"), () => ({
    series: [{ label: told.metric.title, stroke: charts.colour("answer"), width: 2, points: { show: told.epochs.length < 60 } }],
  }));
  const losses = new charts.Chart(at("losses"), () => ({
    series: Object.keys(told.losses).map((label, place) => ({ label, stroke: charts.colour(place ? "line-1" : "edge"), width: 2 })),
  }));

  async function draw() {
    const answer = await fetch(`${address}/chart`);
    if (!answer.ok) return;
    told = await answer.json();
    if (!told.epochs.length) return;
    own.set([told.epochs, told.values]);
    losses.set([told.epochs, ...Object.values(told.losses)]);
  }

  await draw();
  source = new EventSource(`${address}/events?after=${told ? told.number : 0}&seen=${live.dataset.version}`);
  source.addEventListener("epochs", (event) => {
    if (JSON.parse(event.data).points.some(([name]) => name === trial)) draw();
  });
  source.addEventListener("parts", (event) => {
    const { parts, stand } = JSON.parse(event.data);
    if (stand !== live.dataset.stand) return location.reload();
    at("now").innerHTML = parts.now;
  });
  source.addEventListener("reset", () => location.reload());
})();
