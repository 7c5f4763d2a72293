(() => {
  "use strict";
  let content = JSON.parse(document.getElementById("figures").textContent);
  const config = {
    displaylogo: false,
    responsive: true,
    displayModeBar: "hover",
    modeBarButtons: [["toImage"]],
  };

  // Figures name CSS variables for their colours; plotly wants the colours themselves.
  const resolve = (value, style) => {
    if (typeof value === "string") {
      const match = /^var\((--[\w-]+)\)$/.exec(value);
      return match ? style.getPropertyValue(match[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
    }
    return value;
  };

  // A trace with a mark "group:rank" is in colour while the button of that mark is pressed; else grey, or hidden.
  const emphasise = (trace) => {
    if (typeof trace.meta !== "string") return trace;
    const button = document.querySelector(`button[data-curve="${trace.meta}"]`);
    if (!button || button.getAttribute("aria-pressed") === "true") return trace;
    const rest = document.querySelector(`input[data-rest="${trace.meta.split(":")[0]}"]`);
    if (trace.fill || (rest && !rest.checked)) return { ...trace, visible: false };
    const grey = { color: "var(--faint)" };
    return {
      ...trace,
      mode: trace.mode.replace("+text", ""),
      zorder: 0,
      line: { ...trace.line, ...grey, width: 1.1, dash: "solid" },
      marker: { ...trace.marker, ...grey },
    };
  };

  // Figures of one choice follow the selector; the others are named.
  const figureOf = (element) => {
    if (!("ofChoice" in element.dataset)) return content.figures[element.dataset.figure];
    return (element.id === "detail" ? content.details : content.trajectories)[document.getElementById("choice").value];
  };

  const draw = (element) => {
    const figure = figureOf(element);
    const axis = document.querySelector(`select[data-axis="${element.dataset.figure}"]`);
    const shown = {
      data: figure.data.map(emphasise),
      layout: axis ? { ...figure.layout, yaxis: figure.layout.meta.axes[axis.value] } : figure.layout,
    };
    const { data, layout } = resolve(shown, getComputedStyle(document.documentElement));
    return Plotly.react(element, data, { ...layout, width: element.clientWidth }, config);
  };
  const plots = () => [...document.querySelectorAll(".plot")];
  const drawAll = () => plots().forEach(draw);
  drawAll();

  // One choice: by the selector, or by its small picture.
  const pick = (name) => {
    const choice = document.getElementById("choice");
    if (name !== undefined) choice.value = name;
    document.querySelectorAll("[data-of-choice]").forEach(draw);
    document.querySelectorAll("[data-pick]").forEach((button) => button.setAttribute("aria-current", button.dataset.pick === choice.value));
  };
  document.addEventListener("change", (event) => event.target.id === "choice" && pick());
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pick]");
    if (!button) return;
    pick(button.dataset.pick);
    document.getElementById("choice").scrollIntoView({ block: "center" });
  });
  if (document.getElementById("choice")) pick();

  // The cells as they were in the epoch of the slider. Widths are those that cell_drawing.py writes.
  let following = true; // the newest epoch
  const showFrame = () => {
    const slider = document.getElementById("frame");
    if (!slider) return;
    const { epochs, names, choices } = content.frames;
    if (following) slider.value = epochs.length - 1;
    const at = Number(slider.value);
    document.getElementById("frame-epoch").textContent = epochs[at];
    document.querySelectorAll("#moving [data-choice]").forEach((part) => {
      const [shown, values, kept] = choices[part.dataset.choice];
      const colour = `var(--candidate-${shown[at]})`;
      const value = values[at];
      part.classList.toggle("pale", !kept[at]);
      const arc = part.querySelector(".edge");
      if (arc) {
        arc.style.stroke = colour;
        arc.style.strokeWidth = value === null ? 2.2 : 1.4 + 5 * Math.min(1, value);
        part.querySelector("polygon").style.fill = colour;
        return;
      }
      const [box, track, bar] = part.querySelectorAll("rect");
      const [label, beside] = part.querySelectorAll("text");
      const number = beside || label.querySelector("tspan");
      const name = names[shown[at]];
      const middle = box.x.baseVal.value + box.width.baseVal.value / 2;
      const width = 6.7 * (name.length + (number && !beside ? 5 : 0)) + 18;
      box.setAttribute("x", middle - width / 2);
      box.setAttribute("width", width);
      box.style.stroke = colour;
      label.firstChild.data = name;
      if (number) number.textContent = value === null ? "" : value.toFixed(2);
      if (bar) {
        bar.setAttribute("width", track.width.baseVal.value * Math.min(1, value ?? 0));
        bar.style.fill = colour;
      }
    });
  };
  let playing = 0;
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    const button = document.getElementById("play");
    button.setAttribute("aria-pressed", "false");
    button.textContent = "play";
  };
  const moveTo = (at) => {
    const slider = document.getElementById("frame");
    slider.value = at;
    following = Number(slider.value) === content.frames.epochs.length - 1;
    showFrame();
  };
  document.addEventListener("input", (event) => {
    if (event.target.id !== "frame") return;
    if (playing) stop();
    moveTo(event.target.value);
  });
  document.addEventListener("click", (event) => {
    if (event.target.id !== "play") return;
    if (playing) return stop();
    event.target.setAttribute("aria-pressed", "true");
    event.target.textContent = "pause";
    if (following) moveTo(0);
    playing = setInterval(() => {
      moveTo(Number(document.getElementById("frame").value) + 1);
      if (following) stop();
    }, Math.max(80, 6000 / content.frames.epochs.length));
  });
  showFrame();

  const redraw = (group) =>
    plots().forEach((plot) => {
      const figure = content.figures[plot.dataset.figure];
      if (figure && figure.data.some((trace) => typeof trace.meta === "string" && trace.meta.split(":")[0] === group)) draw(plot);
    });
  document.querySelectorAll("button[data-curve]").forEach((button) =>
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
      redraw(button.dataset.curve.split(":")[0]);
    }),
  );
  document.querySelectorAll("input[data-rest]").forEach((box) => box.addEventListener("change", () => redraw(box.dataset.rest)));
  document.querySelectorAll("select[data-axis]").forEach((select) =>
    select.addEventListener("change", () => draw(document.querySelector(`.plot[data-figure="${select.dataset.axis}"]`))),
  );

  let pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(drawAll);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  // A page that is watched gets new numbers, and only figures that changed are drawn again.
  const text = (element) => JSON.stringify(figureOf(element));
  document.addEventListener("archgrad:content", (event) => {
    const before = new Map(plots().filter((plot) => plot.data).map((plot) => [plot, plot.drawn]));
    content = event.detail;
    plots().forEach((plot) => {
      const now = text(plot);
      if (before.get(plot) !== now) draw(plot);
      plot.drawn = now;
    });
    if (document.getElementById("choice")) pick();
    showFrame();
  });

  // Paper is white and narrower than most windows.
  const closed = [];
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.appearance = "light";
    document.body.style.width = "720px";
    document.querySelectorAll("details:not([open])").forEach((details) => {
      details.open = true;
      closed.push(details);
    });
    drawAll();
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.appearance;
    document.body.style.width = "";
    closed.splice(0).forEach((details) => (details.open = false));
    drawAll();
  });
})();
