// Plots the best value so far of several searches in the same charts.
(async () => {
  const box = document.getElementById("by-time");
  if (!box) return;
  const answer = await fetch(`/compare/charts${location.search}`);
  if (!answer.ok) return;
  const { searches, metric } = await answer.json();
  const names = searches.map((one) => one.name);
  ["by-time", "by-epochs"].forEach((id, at) => {
    charts.courseChart(document.getElementById(id), names, at, () => metric).set(charts.courses(searches, at));
  });
})();
