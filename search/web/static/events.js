// Server-sent events for visible pages only: with HTTP/1.1, a browser opens at most six connections
// to a server for all its tabs.
const events = (() => {
  const AGAIN_MS = 5000;
  const WHY = { 401: "The server was restarted. Open the address that it shows.", 404: "This no longer exists." };

  // Fetches JSON. On failure it reports the reason with `say`, schedules `again`, and returns null.
  async function known(address, say, again) {
    let why = "The server does not answer; trying again.";
    try {
      const answer = await fetch(address);
      if (answer.ok) return await answer.json();
      why = WHY[answer.status] ?? "The server cannot answer now; trying again.";
      if (answer.status === 404) again = null;
    } catch { /* the server is down, or the response was cut off */ }
    say(why);
    if (again) setTimeout(again, AGAIN_MS);
    return null;
  }

  // An event stream that is closed while the page is hidden. `address` returns its URL, `heard` has
  // a listener for each type of event, and `begin` reloads everything and opens the stream again.
  function stream(address, heard, begin, say) {
    let source = null, isOpen = false;

    function close() {
      isOpen = false;
      source?.close();
      source = null;
    }

    function connect() {
      source = new EventSource(address());
      for (const [kind, hear] of Object.entries(heard)) source.addEventListener(kind, hear);
      source.addEventListener("reset", () => { close(); begin(); });
      source.addEventListener("gone", () => { close(); say(WHY[404]); });
      source.onerror = () => {
        say("The connection was lost; trying again.");
        if (source.readyState !== EventSource.CLOSED) return; // the browser tries again
        close();
        setTimeout(begin, AGAIN_MS);
      };
    }

    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        source?.close();
        source = null;
      } else if (isOpen && !source) connect();
    });

    return {
      close,
      open() {
        close();
        isOpen = true;
        if (!document.hidden) connect();
      },
    };
  }

  return { known, stream };
})();
