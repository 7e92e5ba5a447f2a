// The theme is set before anything is drawn, so that the page does not flash. As the system has it, unless somebody chose.
"use strict";
(function () {
  const names = ["auto", "light", "dark"];
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("theme") || "auto";
  } catch { /* storage may be off: then each visit begins as the system has it */ }
  const set = (name) => {
    chosen = names.includes(name) ? name : "auto";
    document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("theme", chosen);
    } catch { /* as above */ }
  };
  set(chosen);
  window.tidemarkTheme = {
    name: () => chosen,
    next: () => set(names[(names.indexOf(chosen) + 1) % names.length]),
  };
})();
