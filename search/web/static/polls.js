// Cancels htmx's polling while the page is hidden.
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt, requestConfig } = event.detail;
  const isPoll = !requestConfig.triggeringEvent && elt.getAttribute("hx-trigger")?.includes("every ");
  if (document.hidden && isPoll) event.preventDefault();
});
