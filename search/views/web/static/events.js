// What the server tells a page that is seen: a browser has six connections for all its tabs.
const events = (() => {
  const AGAIN_MS = 5000;
  const WHY = { 401: "The server was started anew: open the address that it shows.", 404: "This is no longer here." };

  // Returns what is at an address; or says why nothing is, and has it tried again.
  async function known(address, say, again) {
    let why = "The server does not answer; trying again.";
    try {
      const answer = await fetch(address);
      if (answer.ok) return await answer.json();
      why = WHY[answer.status] ?? "The server cannot tell it now; trying again.";
      if (answer.status === 404) again = null;
    } catch { /* it is down, or was while it told it */ }
    say(why);
    if (again) setTimeout(again, AGAIN_MS);
    return null;
  }

  // A stream that is closed while nobody sees the page. `address` tells where it is; `heard` has
  // what hears of each kind of event; `begin` asks for everything anew, and opens it again.
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
