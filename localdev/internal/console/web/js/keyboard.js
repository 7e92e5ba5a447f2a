// Shortcuts, the list of them, and the theme.
import { attr, id, text } from "./dom.js";
import { scale } from "./windows.js";

const anchors = ["overview", "windows", "results", "partitions", "rejects", "ledger", "functions", "logs"];
const themes = { auto: "As system", light: "Light", dark: "Dark" };

export function begin(pause) {
  const dialog = id("help-dialog");
  const theme = () => {
    window.tidemarkTheme.next();
    named();
  };
  id("help").addEventListener("click", () => dialog.showModal());
  id("theme").addEventListener("click", theme);
  id("pause").addEventListener("click", pause);
  named();
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.target.closest("input, select, textarea") || dialog.open) return;
    const section = anchors[Number(e.key) - 1];
    if (section) go(section);
    else if (e.key === "?") dialog.showModal();
    else if (e.key === "/") {
      id("search").focus();
      id("search").scrollIntoView({ block: "center" });
    } else if (e.key === "p") pause();
    else if (e.key === "t") theme();
    else if (e.key === "+" || e.key === "=") scale(0.5);
    else if (e.key === "-") scale(2);
    else return;
    e.preventDefault();
  });
}

// go leads eyes and focus to a section.
function go(name) {
  const section = id(name);
  attr(section, "tabindex", "-1");
  section.focus({ preventScroll: true });
  section.scrollIntoView({ block: "start" });
}

function named() {
  const name = themes[window.tidemarkTheme.name()];
  text(id("theme-name"), name);
  attr(id("theme"), "aria-label", `Theme: ${name}`);
}
