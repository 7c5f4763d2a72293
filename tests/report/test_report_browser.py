"""The report in a real headless Chromium."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from archgrad.report.page import write_report

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


def _open(browser, path, dark=False, width=1280):
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.resolve().as_uri())
    _wait(browser, "return [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))")


def _wait(browser, script, seconds=20):
    deadline = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < deadline, f"never true: {script}"
        time.sleep(0.05)


def _requests(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        and not event["params"]["request"]["url"].startswith(("data:", "blob:"))
    ]


# For every figure: its name, how many marks are drawn, and whether they are inside the picture.
_DRAWN = """
return [...document.querySelectorAll('.plot')].map((plot) => {
  const kinds = '.scatterlayer .js-line, .scatterlayer .point, .barlayer .point path, .hm image';
  const marks = [...plot.querySelectorAll(kinds)];
  const box = plot.getBoundingClientRect();
  const seen = marks.filter((mark) => {
    const b = mark.getBoundingClientRect();
    const beside = b.left >= box.right || b.right <= box.left || b.top >= box.bottom || b.bottom <= box.top;
    return b.width + b.height > 0 && !beside;
  });
  const points = plot.calcdata.reduce((sum, trace) => sum + trace.length, 0);
  return {name: plot.dataset.figure || plot.id, traces: plot._fullData.length, points, seen: seen.length,
          heat: plot.querySelectorAll('.hm image').length, width: box.width, height: box.height};
});
"""

RUNS = {
    "darts": ({}, 20, 4),  # cells: at the top, and with the slider
    "nasbench201": ({"space": "nasbench201", "lead": -0.01, "cost": False}, 18, 2),
    "own": ({"space": "own", "epochs": 12, "planned": 12}, 19, 2),
    "unfinished": ({"epochs": 7, "derived": False}, 16, 4),
    "one epoch": ({"epochs": 1, "derived": False}, 15, 2),
    "no epoch": ({"epochs": 0, "derived": False}, 0, 0),
}


@pytest.mark.parametrize("kind", list(RUNS))
def test_every_figure_has_content_and_nothing_is_fetched(browser, make_run, kind):
    settings, figures, cells = RUNS[kind]
    path = write_report(make_run(**settings))
    _open(browser, path)
    drawn = browser.execute_script(_DRAWN)
    assert len(drawn) == figures
    for figure in drawn:
        assert figure["points"] > 0, figure
        assert figure["seen"] > 0, figure
        assert figure["width"] > 250, figure
        assert figure["height"] > 90, figure
        if figure["name"].startswith(("probabilities", "detail", "stability")):
            assert figure["heat"] == 1, figure
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('svg.cell')].map((svg) => {"
        "const box = svg.getBoundingClientRect();"
        "return [box.width, box.height, svg.querySelectorAll('.label').length]})"
    )
    assert len(sizes) == cells
    assert all(width > 200 and height > 80 and labels for width, height, labels in sizes)
    assert browser.get_log("browser") == []
    assert _requests(browser) == [path.resolve().as_uri()]


def test_a_figure_can_be_taken_to_another_choice(browser, make_run):
    _open(browser, write_report(make_run(space="nasbench201", epochs=6, derived=False)))
    read = "return [document.getElementById('choice').value, document.getElementById('detail').data[0].y[0]]"
    for value in ("cell/1<-0", "cell/3<-2"):
        browser.execute_script(
            "const c = document.getElementById('choice'); c.value = arguments[0];"
            "c.dispatchEvent(new Event('change', {bubbles: true}))", value,
        )  # fmt: skip
        chosen, row = browser.execute_script(read)
        assert chosen == value
        assert row == value.replace("<", "&lt;") + " · none"
    assert browser.get_log("browser") == []


def test_dark_page_is_dark_and_follows_the_system(browser, make_run):
    def colours():
        return browser.execute_script(
            "return [getComputedStyle(document.body).backgroundColor, "
            "document.querySelector('[data-figure=loss]').layout.xaxis.tickfont.color]"
        )

    _open(browser, write_report(make_run(epochs=3, derived=False)), dark=True)
    dark = colours()
    scheme = [{"name": "prefers-color-scheme", "value": "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    _wait(
        browser,
        "return document.querySelector('[data-figure=loss]').layout.xaxis.tickfont.color"
        f" !== {json.dumps(dark[1])}",
    )
    light = colours()
    assert sum(map(int, dark[0][4:-1].split(","))) < 150 < 600 < sum(map(int, light[0][4:-1].split(",")))
    assert browser.get_log("browser") == []


def test_the_page_fits_the_window_and_follows_it(browser, make_run):
    _open(browser, write_report(make_run(space="nasbench201")), width=1600)
    for width in (1600, 820, 390):
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        _wait(
            browser,
            "return [...document.querySelectorAll('.plot')].every("
            "p => p.querySelector('.main-svg').getBoundingClientRect().width <= p.clientWidth)",
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert all(figure["seen"] for figure in browser.execute_script(_DRAWN))


def test_paper_is_light_and_opens_what_is_folded(browser, make_run):
    _open(browser, write_report(make_run(epochs=3, derived=False)), dark=True)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    width, folded, colour = browser.execute_script(
        "return [document.querySelector('[data-figure=loss]').layout.width, "
        "document.querySelectorAll('details:not([open])').length, "
        "getComputedStyle(document.documentElement).getPropertyValue('--surface').trim()]"
    )
    assert width < 720
    assert folded == 0
    assert colour == "#ffffff"
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script("return document.querySelectorAll('details:not([open])').length") == 3
    assert browser.execute_script("return document.body.style.width") == ""
    assert browser.get_log("browser") == []


def test_text_of_files_does_not_run(browser, make_run):
    folder = make_run(space="nasbench201", epochs=4, planned=4)
    for path in [p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".yaml")]:
        text = path.read_text()
        for name in ("cifar10", "nor_conv_3x3", "random-0", "cell/1<-0", "frog", "residual", "argmax"):
            text = text.replace(name, ATTACK)
        path.write_text(text)
    _open(browser, write_report(folder))
    time.sleep(0.3)  # a failing image reports after the page has loaded
    assert browser.execute_script("return window.attacked") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert "window.attacked=1" in browser.find_element("tag name", "body").text
    assert browser.get_log("browser") == []


def test_the_slider_writes_every_epoch_into_the_cells(browser, make_run):
    folder = make_run(space="nasbench201", epochs=6, derived=False)
    _open(browser, write_report(folder))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for epoch in (0, 3, 5):
        label, width = browser.execute_script(
            "const slider = document.getElementById('frame'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input', {bubbles: true}));"
            "const [arc, label] = document.querySelectorAll('#moving [data-choice=\"cell/2<-0\"]');"
            "return [label.textContent, getComputedStyle(arc.querySelector('.edge')).strokeWidth]", epoch,
        )  # fmt: skip
        candidate, p = (
            rows[epoch]["architecture"]["cell/2<-0"],
            max(rows[epoch]["probabilities"]["cell/2<-0"]),
        )
        assert label == f"{candidate}{p:.2f}"
        assert float(width[:-2]) == pytest.approx(1.4 + 5 * p, abs=0.01)
        assert browser.execute_script("return document.getElementById('frame-epoch').textContent") == str(
            epoch
        )
    assert browser.get_log("browser") == []


def test_playing_goes_through_the_epochs_and_ends(browser, make_run):
    _open(browser, write_report(make_run(space="nasbench201", epochs=3, derived=False)))
    browser.execute_script("document.getElementById('play').click()")
    assert browser.execute_script("return document.getElementById('frame-epoch').textContent") == "0"
    _wait(browser, "return document.getElementById('frame-epoch').textContent === '2'")
    _wait(browser, "return document.getElementById('play').textContent === 'play'")


def test_a_small_picture_chooses_what_is_shown_large(browser, make_run):
    _open(browser, write_report(make_run(space="nasbench201", epochs=4, derived=False)))
    browser.execute_script("document.querySelector('[data-pick=\"cell/3<-1\"]').click()")
    chosen, row, curves = browser.execute_script(
        "return [document.getElementById('choice').value, document.getElementById('detail').data[0].y[0],"
        "document.querySelector('[data-figure=trajectory]').data.length]"
    )
    assert (chosen, row, curves) == ("cell/3<-1", "cell/3&lt;-1 · none", 5)
    assert browser.get_log("browser") == []
