// Light or dark before the first paint: the stored choice, else what the system prefers.
"use strict";
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const apply = () => { root.dataset.theme = stored() || (system.matches ? "dark" : "light"); };
  apply();
  system.addEventListener("change", () => { apply(); dispatchEvent(new Event("themechange")); });
  window.ckptTheme = () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", next); } catch { /* private window: the choice lasts for this page */ }
    root.dataset.theme = next;
    dispatchEvent(new Event("themechange"));
  };
})();
