// A page that is watched: asks for news, and changes only what differs.
(() => {
  "use strict";
  const EVERY = 2000; // milliseconds
  const status = document.getElementById("live");
  let tag = `"${status.dataset.tag}"`; // the state of the run that this page shows

  // What the reader did to the page stays: folded parts, selections, the slider.
  const OWN = { DETAILS: ["open"], OPTION: ["selected"], INPUT: ["value"], BUTTON: ["aria-pressed", "aria-current"] };

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset?.figure || "" : "");

  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || keyOf(old) !== keyOf(fresh)) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.classList.contains("plot")) return; // plotly's
    const own = OWN[old.nodeName] || [];
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !own.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !own.includes(name)) old.setAttribute(name, value);
    }
    if (old.id === "play") return; // its word belongs to its state
    const before = [...old.childNodes];
    const after = [...fresh.childNodes];
    after.forEach((child, i) => (i < before.length ? morph(before[i], child) : old.append(document.importNode(child, true))));
    before.slice(after.length).forEach((child) => child.remove());
  };

  const show = (state, text) => {
    status.dataset.state = state;
    status.textContent = text;
  };

  const ask = async () => {
    if (document.hidden) return;
    let answer;
    try {
      answer = await fetch("update", { headers: { "If-None-Match": tag }, cache: "no-store" });
    } catch {
      show("lost", "no longer watched");
      return;
    }
    if (answer.status === 304) {
      if (status.dataset.state === "lost") show("live", "live");
      return;
    }
    if (!answer.ok) {
      show("lost", (await answer.text()).trim() || "no answer");
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const styles = [document, fresh].map((page) => page.getElementById("candidates"));
    if (styles[0].textContent !== styles[1].textContent) styles[0].textContent = styles[1].textContent;
    for (const part of ["header", "main"]) morph(document.querySelector(part), fresh.querySelector(part));
    const content = JSON.parse(fresh.getElementById("figures").textContent);
    document.dispatchEvent(new CustomEvent("archgrad:content", { detail: content }));
    tag = answer.headers.get("ETag");
    show("live", `live, ${new Date().toLocaleTimeString()}`);
  };

  const again = () =>
    ask()
      .catch((error) => show("lost", `could not be updated: ${error.message}`))
      .finally(() => setTimeout(again, EVERY));
  setTimeout(again, EVERY);
})();
