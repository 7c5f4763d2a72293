(() => {
  "use strict";
  const content = JSON.parse(document.getElementById("figures").textContent);
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

  const draw = (element) => {
    const figure = element.id === "detail" ? content.details[element.dataset.choice] : content.figures[element.dataset.figure];
    const axis = document.querySelector(`select[data-axis="${element.dataset.figure}"]`);
    const shown = {
      data: figure.data.map(emphasise),
      layout: axis ? { ...figure.layout, yaxis: figure.layout.meta.axes[axis.value] } : figure.layout,
    };
    const { data, layout } = resolve(shown, getComputedStyle(document.documentElement));
    return Plotly.react(element, data, { ...layout, width: element.clientWidth }, config);
  };
  const plots = [...document.querySelectorAll(".plot")];
  const drawAll = () => plots.forEach(draw);
  drawAll();

  const choice = document.getElementById("choice");
  if (choice) {
    choice.addEventListener("change", () => {
      const detail = document.getElementById("detail");
      detail.dataset.choice = choice.value;
      draw(detail);
    });
  }

  const redraw = (group) =>
    plots.forEach((plot) => {
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
