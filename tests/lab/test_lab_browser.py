"""The laboratory's page in a real headless Chromium."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from archgrad.lab.page import write_page

ATTACK = "<img src=x onerror=window.attacked=1><script>window.attacked=1</script>"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture
def show(browser, tmp_path):
    """``show(document, dark=…, width=…)`` opens its page, and returns the address."""

    def opened(content, dark=False, width=1280):
        path = tmp_path / "lab.html"
        write_page(content, path)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(path.resolve().as_uri())
        deadline = time.monotonic() + 20
        drawn = "return [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
        while not browser.execute_script(drawn):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return path.resolve().as_uri()

    return opened


def _click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def _requests(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        and not event["params"]["request"]["url"].startswith(("data:", "blob:"))
    ]


# For every figure: its name, its size, and how many marks are drawn inside the picture.
_DRAWN = """
return [...document.querySelectorAll('.plot')].map((plot) => {
  const kinds = '.scatterlayer .js-line, .scatterlayer .point, .barlayer .point path, .hm image';
  const box = plot.getBoundingClientRect();
  const seen = [...plot.querySelectorAll(kinds)].filter((mark) => {
    const b = mark.getBoundingClientRect();
    const beside = b.left >= box.right || b.right <= box.left || b.top >= box.bottom || b.bottom <= box.top;
    return b.width + b.height > 0 && !beside;
  });
  return {name: plot.dataset.figure, seen: seen.length, width: box.width, height: box.height};
});
"""

# Colours of the curves of a figure as they are drawn, by name; hidden ones are left out.
_COLOURS = """
const plot = document.querySelector(`.plot[data-figure="${arguments[0]}"]`);
return Object.fromEntries(plot._fullData.filter(t => t.visible === true && t.fill !== 'toself')
  .map(t => [t.name, (t.line ?? t.marker).color]));
"""


@pytest.mark.parametrize(
    ("count", "width", "dark"),
    [(1, 360, False), (4, 360, True), (4, 1280, False), (35, 1280, True), (35, 360, False)],
)
def test_every_figure_is_drawn_within_the_page_and_nothing_is_fetched(
    browser, show, document, count, width, dark
):
    names = [f"sampler_{i} · score_function(baseline=leave_one_out,samples={i})" for i in range(count)]
    content = document(names)
    content["left_out"] = ["a · b: they do not go together"]
    address = show(content, dark, width)
    drawn = browser.execute_script(_DRAWN)
    samplers = 2 if count > 1 else 1
    assert len(drawn) == 5 + (count > 1) + 4 + samplers + 4
    for figure in drawn:
        assert figure["seen"] > 0, figure
        assert figure["width"] > 200, figure
        assert figure["height"] > 90, figure
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    tone = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, tone[4:-1].split(","))) < 150) == dark
    assert browser.get_log("browser") == []
    assert _requests(browser) == [address]


def test_a_button_gives_a_curve_its_colour_in_every_figure_of_its_group(browser, show, document):
    show(document([f"c{i}" for i in range(9)], "estimators searches"))
    before = browser.execute_script(_COLOURS, "searches-entropy")
    other = browser.execute_script(_COLOURS, "estimators-0")
    faint = browser.execute_script(
        "return getComputedStyle(document.documentElement).getPropertyValue('--faint').trim()"
    )
    assert [name for name, colour in before.items() if colour == faint] == ["c6", "c7", "c8"]
    button = browser.find_element("css selector", 'button[data-curve="searches:7"]')
    button.send_keys("\ue00d")  # the space bar: a keyboard is enough
    assert button.get_attribute("aria-pressed") == "true"
    for key in ("searches-entropy", "searches-regret"):
        after = browser.execute_script(_COLOURS, key)
        assert [name for name, colour in after.items() if colour == faint] == ["c6", "c8"]
    assert browser.execute_script(_COLOURS, "estimators-0") == other
    _click(browser, 'input[data-rest="searches"]')
    assert "c6" not in browser.execute_script(_COLOURS, "searches-entropy")
    assert "c7" in browser.execute_script(_COLOURS, "searches-entropy")
    _click(browser, 'button[data-curve="searches:7"]')
    assert "c7" not in browser.execute_script(_COLOURS, "searches-entropy")
    assert browser.get_log("browser") == []


def test_bands_are_drawn_for_the_curves_in_colour_only(browser, show, document):
    show(document([f"c{i}" for i in range(9)], "searches"))
    bands = (
        "return document.querySelector('.plot[data-figure=searches-regret]')._fullData"
        ".filter(t => t.fill === 'toself' && t.visible === true).length"
    )
    assert browser.execute_script(bands) == 6
    _click(browser, 'button[data-curve="searches:0"]')
    assert browser.execute_script(bands) == 5


def test_the_axis_of_regret_can_be_linear(browser, show, document):
    show(document(studies="searches"))
    kind = "return document.querySelector('.plot[data-figure=searches-regret]')._fullLayout.yaxis.type"
    assert browser.execute_script(kind) == "log"
    browser.execute_script(
        "const s = document.querySelector('select[data-axis=searches-regret]');"
        "s.value = 'linear'; s.dispatchEvent(new Event('change'))"
    )
    assert browser.execute_script(kind) == "linear"
    assert browser.execute_script(
        "return document.querySelector('.plot[data-figure=searches-regret]')._fullLayout.yaxis.range[1]"
    ) == pytest.approx(52, abs=3)
    assert browser.get_log("browser") == []


def test_on_paper_everything_is_open_light_and_within_the_sheet(browser, show, document):
    show(document([f"c{i}" for i in range(35)]), dark=True)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    folded, tone, widest = browser.execute_script(
        "return [document.querySelectorAll('details:not([open])').length,"
        "getComputedStyle(document.documentElement).getPropertyValue('--surface').trim(),"
        "Math.max(...[...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect().width))]"
    )
    assert (folded, tone) == (0, "#ffffff")
    assert widest < 720
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.get_log("browser") == []


def test_text_of_names_does_not_run(browser, show, document):
    content = document([f"{ATTACK}{i}" for i in range(4)])
    content["left_out"] = [ATTACK]
    content["landscape"]["name"] = ATTACK
    show(content)
    time.sleep(0.3)  # a failing image reports after the page has loaded
    assert browser.execute_script("return window.attacked") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert "window.attacked=1" in browser.find_element("tag name", "body").text
    assert browser.get_log("browser") == []
