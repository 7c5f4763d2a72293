"""`archgrad watch`: who gets the page, when it is made, and a browser on a search that runs."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.errors import UserError
from archgrad.watch.page import LARGEST_SHARE, WatchedPage
from archgrad.watch.server import WatchServer

CHOICES = {"groups": [{"candidates": ["skip", "conv"], "names": ["cell/1<-0", "cell/2<-1"]}]}


def _line(epoch):
    p = 0.5 + 0.04 * epoch
    rows = {"cell/1<-0": [p, 1 - p], "cell/2<-1": [1 - p, p]}
    return {
        "epoch": epoch,
        "seconds": 1.0,
        "train_loss": 2.0 / (1 + epoch),
        "valid_loss": 2.1 / (1 + epoch),
        "probabilities": rows,
        "architecture": {"cell/1<-0": "skip", "cell/2<-1": "conv"},
    }


def _append(folder, *epochs):
    with (folder / "metrics.jsonl").open("a") as file:
        for epoch in epochs:
            file.write(json.dumps(_line(epoch)) + "\n")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("method: darts\nsearch: {epochs: 9}\n")
    (folder / "choices.json").write_text(json.dumps(CHOICES))
    (folder / "secret.txt").write_text("secret")
    _append(folder, 0, 1)
    return folder


@pytest.fixture
def server(run):
    with WatchServer(run) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def _get(address, method="GET", **headers):
    """Status, headers and text of an answer; redirections are not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    request = urllib.request.Request(address, headers=headers, method=method)
    try:
        with urllib.request.build_opener(Stay, urllib.request.ProxyHandler({})).open(
            request, timeout=20
        ) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_the_page_is_there_for_who_knows_the_token(server):
    status, headers, html = _get(server.address)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert headers["Cache-Control"] == "no-store"
    assert "connect-src 'self'" in html
    assert "2 of 9 epochs" in html
    assert _get(server.address, method="HEAD")[2] == ""


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/wrong/update", "/update", "/run/metrics.jsonl", "//", "/%2e/"]
)
def test_without_the_token_there_is_nothing(server, path):
    root = server.address.removesuffix(f"{server.token}/")
    status, _, text = _get(root.rstrip("/") + path)
    assert status == 403
    assert server.token not in text
    assert "epoch" not in text


def test_part_of_the_token_or_another_host_is_not_enough(server):
    assert _get(server.address[:-2] + "/")[0] == 403
    assert _get(server.address.rstrip("/") + "x/")[0] == 403
    assert _get(server.address, Host="evil.example")[0] == 403
    assert _get(server.address, Host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "secret.txt",
        "metrics.jsonl",
        "../secret.txt",
        "..%2f..%2fetc/passwd",
        "/etc/passwd",
        "update/x",
        "report.html",
    ],
)
def test_no_file_is_served_in_the_run_or_outside_of_it(server, path):
    status, _, text = _get(server.address + path)
    assert status in (403, 404)
    assert "secret" not in text
    assert "root:" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_can_only_be_read(server, run, method):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert _get(server.address + "update", method=method)[0] in (405, 501)
    _get(server.address)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_an_address_without_its_last_slash_leads_to_the_page(server):
    status, headers, _ = _get(server.address.rstrip("/"))
    assert (status, headers["Location"]) == (308, f"/{server.token}/")


def test_news_come_when_there_are_some(server, run):
    status, headers, html = _get(server.address + "update")
    assert status == 200
    assert "2 of 9 epochs" in html
    assert len(html) < 400_000  # without plotly
    tag = {"If-None-Match": headers["ETag"]}
    status, _, nothing = _get(server.address + "update", **tag)
    assert (status, nothing) == (304, "")
    server.page._not_before = 0  # as if much time had gone by
    _append(run, 2)
    status, headers, html = _get(server.address + "update", **tag)
    assert status == 200
    assert "3 of 9 epochs" in html
    assert headers["ETag"] != tag["If-None-Match"]


def test_nothing_is_made_while_nothing_changes_and_never_too_often(run, monkeypatch):
    made, clock = [], {"now": 100.0, "used": 0.0}
    real = WatchedPage._made

    def made_in_half_a_second(self, state, whole):
        clock["used"] += 0.5
        made.append(state)
        return real(self, state, whole)

    monkeypatch.setattr(WatchedPage, "_made", made_in_half_a_second)
    page = WatchedPage(run, seconds=lambda: clock["used"], now=lambda: clock["now"])
    first = page.news()
    for _ in range(50):
        clock["now"] += 100
        assert page.known(first.tag)
        assert page.news() is first
    assert len(made) == 1
    _append(run, 2)
    assert not page.known(first.tag)
    second = page.news()
    assert second.tag != first.tag
    for epoch in range(3, 8):  # epochs that end faster than pages may be made
        _append(run, epoch)
        clock["now"] += 0.19 * 0.5 / LARGEST_SHARE
        assert page.known(second.tag)
        assert page.news() is second
    assert len(made) == 2
    clock["now"] += 0.06 * 0.5 / LARGEST_SHARE
    assert not page.known(second.tag)
    assert b"8 of 9 epochs" in page.news().body


def test_a_half_written_line_is_left_out_and_said(server, run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(_line(2))[:60])
    html = _get(server.address + "update")[2]
    assert "2 of 9 epochs" in html
    assert "Line 3 of metrics.jsonl is incomplete or damaged" in html


def test_a_run_that_goes_away_is_said_and_the_server_stays(server, run):
    shutil.rmtree(run)
    status, _, text = _get(server.address + "update")
    assert status == 410
    assert "run folder" in text
    assert _get(server.address + "other")[0] == 404


def test_a_port_in_use_names_another(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use: type --port (\d+)") as caught:
            WatchServer(run, port)
    other = int(str(caught.value).split("--port ")[1].split(",")[0])
    assert other != port
    with WatchServer(run, other) as server:
        assert f":{other}/" in server.address


def test_a_port_that_one_may_not_use_is_said(run, monkeypatch):
    def refuse(self):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(WatchServer, "server_bind", refuse)
    with pytest.raises(UserError, match="port 80 may not be used by you"):
        WatchServer(run, 80)


def test_what_is_no_run_is_refused_before_serving(tmp_path):
    result = CliRunner().invoke(main, ["watch", str(tmp_path)])
    assert result.exit_code == 2
    assert "is no run folder" in result.output


def test_every_server_has_a_token_of_its_own(run):
    with WatchServer(run) as one, WatchServer(run) as other:
        assert one.token != other.token
        assert len(one.token) >= 22  # 128 bits
        assert one.server_address[0] == "127.0.0.1"


def _process(*arguments, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "archgrad", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


def test_ctrl_c_ends_it(run):
    process = _process("watch", run)
    try:
        line = process.stdout.readline()
        address = line.split(" at ")[1].split()[0]
        assert "2 of 9 epochs" in _get(address)[2]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


def _wait(browser, script, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < deadline, f"never true: {script}"
        time.sleep(0.1)
    return found


_EPOCHS = "return document.querySelector('[data-figure=loss]').data[0].x.length"


def test_a_browser_shows_new_epochs_of_a_running_search_without_loading_again(browser, tmp_path):
    folder = tmp_path / "run"
    search = _process(
        "search", "--run", folder, "--data", "digits", "--space", "nasbench201", "--method", "gdas",
        "search.epochs=500", "space.channels=4", "space.cells=1",
    )  # fmt: skip
    watch = None
    try:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
            assert search.poll() is None, search.stderr.read()
            time.sleep(0.1)
        watch = _process("watch", folder, "--json")
        said = json.loads("".join(watch.stdout.readline() for _ in range(4)))
        assert said["run"] == str(folder)
        browser.get(said["address"])
        _wait(
            browser, "return [...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))"
        )
        first = browser.execute_script(_EPOCHS)
        # What the reader did stays, and what is on the page is not built anew.
        browser.execute_script(
            "window.same = true; window.plot = document.querySelector('[data-figure=loss]');"
            "document.querySelector('[data-pick=\"cell/3<-1\"]').click();"
            "document.querySelector('#run details').open = true; scrollTo(0, 900);"
        )
        _wait(browser, f"{_EPOCHS} > {first}")
        second = browser.execute_script(_EPOCHS)
        _wait(browser, f"{_EPOCHS} > {second}")
        kept = browser.execute_script(
            "return [window.same, window.plot === document.querySelector('[data-figure=loss]'), "
            "document.getElementById('choice').value, document.querySelector('#run details').open, scrollY]"
        )
        assert kept == [True, True, "cell/3<-1", True, 900]
        said, epochs, last = browser.execute_script(
            "return [document.querySelector('.callout').textContent, window.plot.data[0].x.length, "
            "Number(document.getElementById('frame-epoch').textContent)]"
        )
        assert f"{epochs} of 500 epochs" in said
        assert last == epochs - 1  # the slider follows
        assert browser.get_log("browser") == []
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == 0
        _wait(browser, "return document.getElementById('live').textContent === 'no longer watched'")
    finally:
        for process in filter(None, (search, watch)):
            process.kill()
            process.communicate()


def test_watching_does_not_load_pytorch():
    code = "import sys, archgrad.cli, archgrad.watch.server; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_the_command_line_starts_without_server_and_page():
    code = (
        "import sys, archgrad.cli; print([m for m in sys.modules if m in ('archgrad.watch', 'http.server')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_page_that_was_opened_before_the_first_epoch_fills(browser, server, run):
    (run / "metrics.jsonl").unlink()
    browser.get(server.address)
    assert browser.execute_script("return document.querySelectorAll('.plot').length") == 0
    _append(run, 0, 1, 2)
    _wait(
        browser,
        "return document.querySelectorAll('.plot').length > 8 && "
        "[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))",
    )
    arcs = "return [...document.querySelectorAll('#moving .edge')].map(arc => arc.style.stroke)"
    assert browser.execute_script(arcs) == ["var(--candidate-0)", "var(--candidate-1)"]
    colour = "return getComputedStyle(document.documentElement).getPropertyValue('--candidate-0')"
    assert browser.execute_script(colour).strip().startswith("#")
    # A reader who went back in time stays there.
    browser.execute_script(
        "const slider = document.getElementById('frame'); slider.value = 1;"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    server.page._not_before = 0
    _append(run, 3)
    _wait(browser, "return document.getElementById('frame').max === '3'")
    assert browser.execute_script("return document.getElementById('frame-epoch').textContent") == "1"
    assert browser.get_log("browser") == []
