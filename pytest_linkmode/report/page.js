"use strict";
// Without this script every edge is still a link to the list of its tests.
(() => {
  const panel = document.getElementById("panel");
  const edges = [...document.querySelectorAll("svg a[data-edge]")];
  let chosen = null;

  function close(focus) {
    panel.hidden = true;
    panel.replaceChildren();
    if (chosen) {
      chosen.classList.remove("chosen");
      chosen.removeAttribute("aria-current");
      if (focus) chosen.focus();
    }
    chosen = null;
  }

  function choose(edge) {
    close(false);
    chosen = edge;
    edge.classList.add("chosen");
    edge.setAttribute("aria-current", "true");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "close";
    button.textContent = "Close (Esc)";
    button.addEventListener("click", () => close(true));
    const tests = document.getElementById(edge.dataset.edge).cloneNode(true);
    tests.removeAttribute("id");
    panel.append(button, tests);
    panel.hidden = false;
    panel.scrollTop = 0;
  }

  function move(from, step) {
    const there = edges.filter((edge) => !edge.classList.contains("away"));
    const next = there[(there.indexOf(from) + step + there.length) % there.length];
    next.focus();
    if (chosen) choose(next);
  }

  for (const edge of edges) {
    edge.addEventListener("click", (event) => {
      event.preventDefault();
      if (chosen === edge) close(true); else choose(edge);
    });
    edge.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        move(edge, event.key === "ArrowDown" ? 1 : -1);
      } else if (event.key === " ") {
        event.preventDefault();
        choose(edge);
      }
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) close(true);
  });

  for (const button of document.querySelectorAll("button[data-proof]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of document.querySelectorAll("button[data-proof]")) {
        other.setAttribute("aria-pressed", String(on && other.dataset.proof === button.dataset.proof));
      }
      for (const edge of edges) {
        edge.classList.toggle("away", on && !edge.classList.contains(button.dataset.proof));
      }
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      // The newer clipboard needs a server with TLS; a file has none.
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    });
  }
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details.print")) fold.open = true;
  });
})();
