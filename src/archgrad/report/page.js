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

  const draw = (element) => {
    const figure = element.id === "detail" ? content.details[element.dataset.choice] : content.figures[element.dataset.figure];
    const { data, layout } = resolve(figure, getComputedStyle(document.documentElement));
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
