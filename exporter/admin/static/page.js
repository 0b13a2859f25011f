// The page is complete without this script. With it, codes explain themselves on hover, focus or tap, moments become
// ages, and on the landing page each state from /events is filled into the places that carry its names.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const get = (scope, path) => path.split(".").reduce((found, name) => found?.[name], scope);

  // Ages.

  function age(seconds) {
    if (seconds < 5) return "just now";
    if (seconds < 60) return `${Math.floor(seconds / 5) * 5} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    return `${Math.floor(seconds / 3600)} h ago`;
  }

  let skew = 0; // seconds by which this machine's clock is behind the pod's

  function showAges() {
    for (const time of document.querySelectorAll("time[datetime]:not([data-exact])")) {
      time.title ||= time.textContent;
      put(time, age(Date.now() / 1000 + skew - Date.parse(time.dateTime) / 1000));
    }
  }

  // Filling a snapshot into the page.

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function fill(element, scope) {
    const { text, attr, spark, at, list } = element.dataset;
    if (text) put(element, get(scope, text) ?? "");
    for (const pair of attr ? attr.split(" ") : []) {
      const [name, path] = pair.split(":");
      const value = String(get(scope, path) ?? "");
      if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    }
    if (spark) drawSpark(element, get(scope, spark));
    if (at) {
      element.dateTime = new Date(get(scope, at) * 1000).toISOString();
      element.title = scope.when;
    }
    if (list) fillList(element, get(scope, list) ?? []);
    else for (const child of element.children) fill(child, scope);
  }

  // Rows that stay are kept, so that neither focus nor an open card is lost; a row in focus outlives its group.
  function fillList(list, items) {
    const template = list.querySelector(":scope > template");
    const rows = new Map();
    for (const row of list.querySelectorAll(":scope > [data-key]")) rows.set(row.dataset.key, row);
    const keys = new Set(items.map((item) => item.key));
    for (const [key, row] of rows) if (!keys.has(key) && !row.contains(document.activeElement)) row.remove();
    let before = template;
    for (const item of items) {
      let row = rows.get(item.key);
      if (!row) {
        row = template.content.firstElementChild.cloneNode(true);
        row.dataset.key = item.key;
        before.after(row);
      }
      fill(row, item);
      before = row;
    }
  }

  // Charts.

  const tones = ["fault", "other", "expected", "normal"];

  function svg(name, attributes, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const drawn = new Map(); // each chart's last series, to draw again in another width

  function drawSpark(element, counts) {
    drawn.set(element, () => drawSpark(element, counts));
    element.removeAttribute("hidden");
    const { width, height } = element.getBoundingClientRect();
    if (!width) return;
    const step = width / counts.length;
    const top = Math.max(...counts, 4); // so that a single close does not look like a flood
    const bars = counts.map((count, place) => {
      const tall = count && Math.max(3, (count / top) * height);
      return svg("rect", { x: place * step, y: height - tall, width: Math.max(1, step - 1), height: tall });
    });
    element.replaceChildren(svg("line", { x1: 0, x2: width, y1: height, y2: height }), ...bars);
  }

  function niceTop(most) {
    const power = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
    return Math.max(4, [1, 2, 3, 4, 5, 6, 8, 10].map((times) => times * power).find((top) => top >= most && top % 2 === 0));
  }

  function drawChart(element, series) {
    drawn.set(element, () => drawChart(element, series));
    element.removeAttribute("hidden");
    document.querySelector(".legend").hidden = false;
    const { width, height } = element.getBoundingClientRect();
    const [left, bottom] = [38, height - 22];
    if (width <= left) return; // not laid out yet; the observer below draws again when it is
    const minutes = series.fault.length;
    const totals = series.fault.map((_, place) => tones.reduce((sum, tone) => sum + series[tone][place], 0));
    const top = niceTop(Math.max(...totals));
    const step = (width - left) / minutes;
    const parts = [0, 0.5, 1].flatMap((share) => {
      const y = bottom - share * (bottom - 12);
      return [
        svg("line", { class: "grid", x1: left, x2: width, y1: y, y2: y }),
        svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, (share * top).toLocaleString("en")),
      ];
    });
    for (let place = 0; place < minutes; place++) {
      let y = bottom;
      const x = left + place * step;
      for (const tone of tones) {
        const count = series[tone][place];
        if (!count) continue;
        const tall = Math.max(2, (count / top) * (bottom - 12)); // one fault among hundreds is still seen
        y -= tall;
        parts.push(svg("rect", { "data-tone": tone, x, y, width: Math.max(1, step - 1.5), height: tall }));
      }
      const counts = tones.map((tone) => `${series[tone][place]} ${tone}`).join(", ");
      const ago = minutes - 1 - place;
      const title = svg("title", {}, `${ago ? `${ago} min ago` : "this minute"}: ${counts}`);
      parts.push(svg("rect", { class: "hit", x, y: 12, width: step, height: bottom - 12 }, title));
    }
    const half = minutes > 5 ? [[0.5, `${Math.round(minutes / 2)} min ago`, "middle"]] : [];
    for (const [place, words, anchor] of [[0, `${minutes} min ago`, "start"], ...half, [1, "now", "end"]]) {
      parts.push(svg("text", { x: left + place * (width - left), y: height - 4, "text-anchor": anchor }, words));
    }
    element.replaceChildren(...parts);
    const sums = tones.map((tone) => `${series[tone].reduce((a, b) => a + b, 0)} ${tone}`).join(", ");
    element.setAttribute("aria-label", `Closes by the minute in the last ${minutes} minutes: ${sums}. At most ${Math.max(...totals)} in a minute.`);
  }

  // The explanation of a code, in a card by the code: on hover and focus, kept by a tap, gone with Escape.

  let card = null;
  let owner = null;
  let leaving = 0;

  function explain(code) {
    clearTimeout(leaving);
    if (owner === code) return;
    hideCard();
    const entry = byId(code.getAttribute("href").slice(1));
    if (!entry) return;
    owner = code;
    card = document.createElement("div");
    card.className = "card";
    card.setAttribute("aria-hidden", "true"); // a screen reader has the same from aria-describedby
    for (const child of entry.children) card.append(child.cloneNode(true));
    for (const named of card.querySelectorAll("[id]")) named.removeAttribute("id");
    card.addEventListener("pointerenter", () => clearTimeout(leaving));
    card.addEventListener("pointerleave", leaveSoon);
    document.body.append(card);
    placeCard();
  }

  function placeCard() {
    if (!card) return;
    const at = owner.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) return hideCard();
    const size = card.getBoundingClientRect();
    const below = at.bottom + 6 + size.height <= innerHeight || at.top < innerHeight / 2;
    const y = below ? at.bottom + 6 : at.top - 6 - size.height;
    card.style.top = `${Math.max(8, Math.min(y, innerHeight - size.height - 8))}px`;
    card.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8))}px`;
  }

  function hideCard() {
    clearTimeout(leaving);
    card?.remove();
    card = owner = null;
  }

  function leaveSoon() {
    clearTimeout(leaving);
    leaving = setTimeout(() => owner !== document.activeElement && hideCard(), 200);
  }

  const codeOf = (event) => event.target instanceof Element && event.target.closest("a.code");
  document.addEventListener("pointerover", (event) => codeOf(event) && explain(codeOf(event)));
  document.addEventListener("pointerout", (event) => codeOf(event) && leaveSoon());
  document.addEventListener("focusin", (event) => (codeOf(event) ? explain(codeOf(event)) : hideCard()));
  document.addEventListener("focusout", (event) => codeOf(event) && leaveSoon());
  document.addEventListener("click", (event) => {
    const code = codeOf(event);
    if (!code) {
      if (!card?.contains(event.target)) hideCard();
    } else if (byId(code.getAttribute("href").slice(1))) {
      event.preventDefault();
      code.focus();
      explain(code);
    }
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideCard());
  addEventListener("scroll", placeCard, { passive: true });

  // Live.

  const first = byId("first");
  if (first) {
    const live = byId("live");
    const announcer = byId("announcer");
    let source = null;
    let retry = 0;
    let announced = null; // abnormal closes that were announced
    let waiting = 0;

    function standing(state, words) {
      live.hidden = false;
      live.dataset.live = state;
      put(live, words);
    }

    // At most one sentence in 20 seconds, and only about abnormal closes.
    function announce(state) {
      announced ??= state.abnormal;
      if (waiting || state.abnormal <= announced) return;
      waiting = setTimeout(() => {
        waiting = 0;
        announce(latest);
      }, 20000);
      const more = state.abnormal - announced;
      announced = state.abnormal;
      announcer.textContent = `${more} new abnormal ${more === 1 ? "close" : "closes"}. The latest: ${state.groups[0]?.conclusion ?? ""}`;
    }

    let latest = null;

    function show(state) {
      latest = state;
      skew = state.now - Date.now() / 1000;
      const last = state.tones.fault.length - 1;
      const table = state.tones.fault.map((_, place) => ({
        key: String(last - place),
        ...Object.fromEntries(tones.map((tone) => [tone, String(state.tones[tone][place])])),
      }));
      state.table = table.filter((_, place) => tones.some((tone) => state.tones[tone][place])).reverse();
      fill(document.body, state);
      drawChart(byId("chart"), state.tones);
      for (const none of document.querySelectorAll("[data-empty]")) none.hidden = state[none.dataset.empty].length > 0;
      showAges();
      announce(state);
    }

    function listen() {
      clearTimeout(retry);
      source?.close();
      source = new EventSource("/events");
      source.onopen = () => standing("on", "Live.");
      source.onmessage = (event) => show(JSON.parse(event.data));
      source.onerror = () => {
        standing("off", "Not live: trying again.");
        if (source.readyState === EventSource.CLOSED) retry = setTimeout(listen, 15000);
      };
    }

    // A page that nobody sees takes no place among the listeners.
    function attend() {
      clearTimeout(retry);
      if (document.hidden) source?.close();
      else listen();
    }

    show(JSON.parse(first.textContent));
    if (first.dataset.listed === "true") {
      document.addEventListener("visibilitychange", attend);
      attend();
    }
  }

  showAges();
  setInterval(showAges, 5000);
  new ResizeObserver(() => drawn.forEach((draw) => draw())).observe(document.body);
})();
