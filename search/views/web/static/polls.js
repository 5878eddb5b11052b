// A page that nobody sees asks for nothing again and again.
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt, requestConfig } = event.detail;
  const isPoll = !requestConfig.triggeringEvent && elt.getAttribute("hx-trigger")?.includes("every ");
  if (document.hidden && isPoll) event.preventDefault();
});
