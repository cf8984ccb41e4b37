// Renews the page when the node has looked at the cluster again, and shows times in the browser's zone. Everything
// works without it: pages renew when they are loaded.
"use strict";
(() => {
  const zone = () => {
    const m = -new Date().getTimezoneOffset(), a = Math.abs(m);
    return "UTC" + (m < 0 ? "-" : "+") + String(a / 60 | 0).padStart(2, "0") + (a % 60 ? ":" + String(a % 60).padStart(2, "0") : "");
  };
  const two = n => String(n).padStart(2, "0");
  const times = root => root.querySelectorAll("time[datetime]").forEach(t => {
    const d = new Date(t.getAttribute("datetime"));
    if (isNaN(d)) return;
    const day = d.toDateString() === new Date().toDateString() ? "" : d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate()) + " ";
    t.title = t.getAttribute("datetime");
    t.textContent = day + two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
  });
  const z = document.getElementById("zone");
  if (z) z.textContent = zone();
  times(document);
  const main = document.querySelector("main[data-live]");
  if (!main || !window.EventSource) return;
  let busy = false, last = 0;
  const renew = async () => {
    const held = main.contains(document.activeElement) && /^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(document.activeElement.tagName);
    if (busy || held || document.hidden || Date.now() - last < 2000) return;
    busy = true; last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
        const open = [...main.querySelectorAll("details[open]")].map(d => d.id);
        if (next) {
          main.replaceChildren(...next.childNodes);
          open.forEach(id => { const d = id && document.getElementById(id); if (d) d.open = true; });
          times(main);
        }
      }
    } catch (e) { /* the node is away; the stream tells when it is back */ }
    busy = false;
  };
  new EventSource("/live").addEventListener("look", renew);
})();
