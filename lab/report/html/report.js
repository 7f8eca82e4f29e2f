// The page reads without this; it adds widening, a line at the pointer, and the choice of events.
(() => {
  "use strict";
  const NICE = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
  const MOST = 64;
  const SVG = "http://www.w3.org/2000/svg";

  for (const scenario of document.querySelectorAll("section.scenario")) {
    const charts = [...scenario.querySelectorAll(".chart")].map(readChart);
    let zoom = 1;

    // All charts of a scenario show the same stretch of time.
    function widen(to, anchor, place) {
      zoom = Math.min(MOST, Math.max(1, to));
      for (const chart of charts) {
        chart.drawing.style.setProperty("--zoom", zoom);
        const { width } = chart.drawing.getBoundingClientRect();
        chart.scroll.scrollLeft = anchor * width - place;
        chart.relabel(zoom);
      }
    }
    function middle(chart) {
      const half = chart.scroll.clientWidth / 2;
      return [(chart.scroll.scrollLeft + half) / chart.drawing.getBoundingClientRect().width, half];
    }
    for (const chart of charts) {
      const tools = document.createElement("div");
      tools.className = "tools";
      for (const [label, title, act] of [
        ["−", "show more time", () => widen(zoom / 2, ...middle(chart))],
        ["+", "show less time", () => widen(zoom * 2, ...middle(chart))],
        ["all", "show all", () => widen(1, 0, 0)],
      ]) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = label;
        button.title = title;
        button.addEventListener("click", act);
        tools.append(button);
      }
      chart.element.before(tools);
      chart.scroll.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        const left = event.clientX - chart.scroll.getBoundingClientRect().left;
        const anchor = (chart.scroll.scrollLeft + left) / chart.drawing.getBoundingClientRect().width;
        widen(zoom * (event.deltaY < 0 ? 1.5 : 1 / 1.5), anchor, left);
      }, { passive: false });
      chart.scroll.addEventListener("scroll", () => {
        for (const other of charts) {
          if (other !== chart && other.scroll.scrollLeft !== chart.scroll.scrollLeft) {
            other.scroll.scrollLeft = chart.scroll.scrollLeft;
          }
        }
      });
      chart.scroll.addEventListener("pointermove", (event) => {
        const box = chart.drawing.getBoundingClientRect();
        point((event.clientX - box.left) / box.width);
      });
      chart.scroll.addEventListener("pointerleave", () => point(null));
    }
    function point(share) {
      for (const chart of charts) chart.point(share);
    }

    const list = scenario.querySelector("details.events");
    if (list) readEvents(scenario, list, (at) => {
      const chart = charts[0];
      const share = (at - chart.begin) / Math.max(chart.end - chart.begin, 0.001);
      widen(zoom, share, chart.scroll.clientWidth / 2);
      point(share);
    });
  }

  // On paper nothing can be unfolded.
  addEventListener("beforeprint", () => {
    for (const criterion of document.querySelectorAll("#criteria details")) criterion.open = true;
  });

  function readChart(element) {
    const drawing = element.querySelector(".drawing");
    const axis = drawing.querySelector(".axis");
    const begin = Number(element.dataset.begin);
    const end = Number(element.dataset.end);
    const length = Math.max(end - begin, 0.1);
    const bottom = drawing.getAttribute("height");
    const cursor = document.createElementNS(SVG, "g");
    const line = document.createElementNS(SVG, "line");
    line.setAttribute("class", "cursor");
    line.setAttribute("y1", "14");
    line.setAttribute("y2", bottom);
    cursor.append(line);
    drawing.append(cursor);
    cursor.style.display = "none";

    function label(at) {
      return Math.abs(at - Math.round(at)) < 0.001 ? `${Math.round(at)} s` : `${at.toFixed(1)} s`;
    }
    return {
      element, drawing, begin, end,
      scroll: element.querySelector(".scroll"),
      relabel(zoom) {
        const step = NICE.find((step) => length / step <= 7 * zoom) ?? length / 7;
        axis.replaceChildren();
        for (let n = Math.ceil(begin / step); n * step <= end; n += 1) {
          const x = `${((n * step - begin) / length) * 100}%`;
          const rule = document.createElementNS(SVG, "line");
          for (const [key, value] of [["x1", x], ["x2", x], ["y1", "17"], ["y2", bottom]]) rule.setAttribute(key, value);
          const text = document.createElementNS(SVG, "text");
          text.setAttribute("x", x);
          text.setAttribute("y", "12");
          text.textContent = label(n * step);
          axis.append(rule, text);
        }
      },
      point(share) {
        cursor.style.display = share === null ? "none" : "";
        if (share === null) return;
        const x = `${Math.min(1, Math.max(0, share)) * 100}%`;
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
        element.title = label(begin + share * length);
      },
    };
  }

  function readEvents(scenario, list, show) {
    const rows = [...list.querySelectorAll("tr")];
    const filters = list.querySelector(".filters");
    const [whose, words] = [filters.querySelector("select"), filters.querySelector("input[type=search]")];
    const kinds = [...filters.querySelectorAll("input[type=checkbox]")];
    const count = list.querySelector(".count");
    filters.hidden = false;

    function filter() {
      const shown = new Set(kinds.filter((kind) => kind.checked).map((kind) => kind.value));
      const text = words.value.trim().toLowerCase();
      let left = 0;
      for (const row of rows) {
        const kind = kinds.find((kind) => row.classList.contains(kind.value));
        const cells = row.cells;
        const fits = (!kind || shown.has(kind.value) || row.classList.contains("chosen"))
          && (!whose.value || cells[1].textContent === whose.value)
          && (!text || cells[3].textContent.toLowerCase().includes(text));
        row.hidden = !fits;
        left += fits ? 1 : 0;
      }
      count.textContent = left === rows.length ? `${left}` : `${left} of ${rows.length}`;
    }
    function choose(row) {
      for (const chosen of scenario.querySelectorAll(".chosen")) chosen.classList.remove("chosen");
      row.classList.add("chosen");
      scenario.querySelector(`a[href="#${row.id}"] .mark`)?.classList.add("chosen");
    }
    for (const input of [whose, words, ...kinds]) input.addEventListener("input", filter);
    filter();
    list.querySelector(".rows").addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (!row || String(getSelection())) return;
      choose(row);
      show(Number(row.dataset.at));
    });
    scenario.addEventListener("click", (event) => {
      const link = event.target.closest("svg.drawing a");
      if (!link) return;
      const row = document.getElementById(link.getAttribute("href").slice(1));
      if (!row) return;
      event.preventDefault();
      list.open = true;
      choose(row);
      filter();
      row.hidden = false;
      row.scrollIntoView({ block: "nearest" });
    });
  }
})();
