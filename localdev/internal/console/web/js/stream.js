// The stream of events: it comes again by itself when it is lost, and rests while nobody looks.

const firstPause = 500, mostPause = 5000, silence = 6000;

// connect calls on(section, data) for each event, and state(name) when the connection changes: connecting, live, lost, asleep.
export function connect(on, state) {
  let source = null, pause = firstPause, timer = 0, last = 0;

  function open() {
    clearTimeout(timer);
    timer = 0;
    if (source) source.close();
    source = new EventSource("api/events");
    last = Date.now();
    source.onopen = () => { last = Date.now(); };
    source.onerror = lost;
    for (const name of ["status", "history", "explain", "windows", "results", "rejects", "ledger", "functions", "logs"]) {
      source.addEventListener(name, (event) => {
        last = Date.now();
        pause = firstPause;
        state("live");
        on(name, JSON.parse(event.data));
      });
    }
  }

  function lost() {
    if (!source || timer) return;
    source.close();
    source = null;
    state("lost");
    timer = setTimeout(open, pause);
    pause = Math.min(2 * pause, mostPause);
  }

  // A connection may die without a word.
  setInterval(() => {
    if (source && Date.now() - last > silence) lost();
  }, 1000);

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      timer = 0;
      if (source) source.close();
      source = null;
      state("asleep");
    } else if (!source) {
      pause = firstPause;
      open();
    }
  });
  state("connecting");
  if (!document.hidden) open();
}
