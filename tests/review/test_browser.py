"""The page in a real browser: headless Chromium, without WebGL, on a server that is killed once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cardiometa.reading.decisions import read_decisions
from tests.kit.small_runs import load, table
from tests.review.conftest import segment

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver on this machine"
)
HOSTILE = "<script>window.hacked=1</script>"


class Page:
    """A browser and what the tests do with it."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
            *("--disable-3d-apis", "--window-size=1280,720", "--no-first-run"),
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))

    def js(self, code: str, *arguments: object):
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition: str, seconds: float = 30.0):
        """The value of a JavaScript expression once it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.js(f"return {condition}"):
                return value
            time.sleep(0.02)
        raise AssertionError(f"{condition}: {self.js('return document.body.innerText')[:800]}")

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def draw(self, *points: tuple[float, float]) -> None:
        """Drag the mouse over points ``(x, y)`` of the image, in pixels of the scan."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.by import By

        canvas = self.driver.find_element(By.ID, "view")
        x0, y0, scale = (float(v) for v in self.js("return document.body.dataset.view").split())
        mouse = ActionChains(self.driver, duration=20)
        for number, (x, y) in enumerate(points):
            mouse.move_to_element_with_offset(
                canvas, round((x - x0) * scale), round((y - y0) * scale)
            )
            if number == 0:
                mouse.click_and_hold()
        mouse.release().perform()

    @property
    def revision(self) -> str:
        return self.js("return document.body.dataset.revision")

    def changed(self, before: str) -> str:
        """Wait until the server has measured another revision."""
        self.wait(f"document.body.dataset.revision !== '{before}'")
        return self.revision

    def measures(self) -> list[list[str]]:
        return self.js(
            "return [...document.querySelectorAll('#measures tbody tr')].map(r =>"
            " [...r.children].map(c => c.textContent))"
        )

    def open(self, participant: str) -> None:
        self.find(participant)
        self.wait("document.querySelectorAll('.row').length === 1")
        self.click(".row")
        self.wait(f"document.getElementById('name').textContent === 'ALPHA/{participant}/baseline'")
        self.find("")

    def find(self, text: str) -> None:
        """Fill in the field that finds participants."""
        field = "document.getElementById('f-text')"
        self.js(f"{field}.value = arguments[0]; {field}.dispatchEvent(new Event('input'))", text)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    found = Page()
    yield found
    found.driver.quit()


class ServerProcess:
    """``cardiometa review`` as a user starts it."""

    def __init__(self, out: Path, cohort: Path) -> None:
        command = [sys.executable, "-m", "cardiometa", "review", str(out), "--cohort", str(cohort)]
        self.process = subprocess.Popen(
            [*command, "--reader", "AB"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stderr is not None
        line = ""
        while not line.startswith("review: "):
            line = self.process.stderr.readline()
            assert line, "the server ended"
        self.address = line.split()[1]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


def with_hostile_row(out: Path) -> None:
    """A participant whose id is a script: `segment` refuses it, the page shows it as text."""
    path = out / "measurements.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1].replace("001", HOSTILE, 1)]) + "\n")


def test_a_review_from_the_first_look_to_the_tables(
    page: Page, cohort: Path, segmented: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(segmented, tmp_path / "out"))
    with_hostile_row(out)
    server = ServerProcess(out, cohort)
    try:
        look_through(page, server)
        edit(page, out)
        first = last_row(out)
        # The server is killed while an edit is on its way.
        page.keys("b")
        page.draw((30, 48), (34, 50))
        server.end(signal.SIGKILL)
        page.draw((30, 52), (34, 54))
        page.wait("!document.getElementById('alert').hidden")
        assert "does not answer" in page.js("return document.getElementById('alert').textContent")
        page.js("window.onbeforeunload = null")
        server = ServerProcess(out, cohort)
        page.driver.get("about:blank")
        shown = decide(page, server, out, first)
        assert server.end(signal.SIGINT) == 0
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)
    segment(cohort, out, out / "review")
    rows = table(out)
    assert [rows[p]["status"] for p in ("001", "002", "003")] == ["ok", "failed", "ok"]
    assert "corrected" in rows["001"]["flags"].split(";")
    names = {"EDV (mL)": "lv_edv_ml", "ESV (mL)": "lv_esv_ml", "EF (%)": "lv_ef_percent"}
    for label, now, *_ in shown:
        if label in names:
            assert f"{float(rows['001'][names[label]]):.1f}" == now
    assert any(now != model for label, now, model, *_ in shown)


def last_row(out: Path):
    return read_decisions(out / "review" / "decisions.csv")[0][-1]


def look_through(page: Page, server: ServerProcess) -> None:
    """Open, find, filter, sort; open a scan by keys alone; play."""
    page.driver.get(server.address)
    page.wait("document.querySelectorAll('.row').length === 6")
    assert HOSTILE in page.js("return document.getElementById('rows').textContent")
    assert page.js("return window.hacked") is None
    assert page.js("return document.getElementById('progress').textContent") == "0 of 6 reviewed"
    page.click("#f-text")
    page.keys("002")
    page.wait("document.querySelectorAll('.row').length === 1")
    page.keys("\ue003" * 3)  # backspace
    page.wait("document.querySelectorAll('.row').length === 6")
    page.click("#head div:nth-child(3) button")
    first = "document.querySelector('.row > div:nth-child(3)').textContent"
    page.wait(f"{first}.startsWith('001') || {first}.startsWith('<')")
    # By keys alone: every control has a name and a visible focus, Enter opens the scan.
    unnamed = page.js(
        "return [...document.querySelectorAll('button, input, select, canvas')].filter(e =>"
        " !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.closest('.thumb')"
        " || e.id === 'view')).map(e => e.outerHTML)"
    )
    assert unnamed == []
    page.js("document.getElementById('grid').focus()")
    page.keys("\ue010", "\ue011")  # end, home
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    place = page.js(
        "return [...document.querySelectorAll('.row')].findIndex(r =>"
        " r.children[2].textContent === '001')"
    )
    page.keys(*["\ue015"] * place, "\ue007")  # down, Enter
    page.wait("document.body.dataset.shown !== undefined")
    assert page.js("return document.getElementById('name').textContent") == "ALPHA/001/baseline"
    page.keys(" ")
    page.wait("Number(document.body.dataset.frame) > 3")
    page.keys(" ")
    assert page.js("return document.getElementById('play').ariaPressed") == "false"


def edit(page: Page, out: Path) -> None:
    """Brush, undo, redo, drag, the cursor of the keyboard, a slice off, ED moved; then save."""
    page.click(".thumb[data-phase=ED][aria-label='ED, slice 4']")
    page.wait("document.body.dataset.slice === '4' && document.body.dataset.frame === '0'")
    model = page.measures()
    before = page.revision
    page.keys("b", "2")
    page.draw((52, 44), (56, 48), (60, 52))  # in the cavity, whose centre is (56, 48)
    after = page.changed(before)
    edited = page.measures()
    assert float(edited[0][1]) < float(model[0][1])
    assert edited[0][2] == model[0][1]
    page.keys("z")
    undone = page.changed(after)
    assert page.measures() == model
    page.keys("y")
    redone = page.changed(undone)
    assert page.measures() == edited
    page.keys("g")
    radius = 18 * (1 - 0.6 * 3 / 6)  # of the cavity in this slice of the disc heart
    page.draw((56 + radius, 48), (56 + radius + 3, 48))
    moved = page.changed(redone)
    assert float(page.measures()[0][1]) > float(edited[0][1])
    page.keys("k", "x", "\ue014", "\ue014", "\ue007", "\ue00c")  # cursor, erase, right twice, Enter
    erased = page.changed(moved)
    page.click(".thumb[data-phase=ED][aria-label='ED, slice 1']")
    page.keys("t")
    off = page.changed(erased)
    page.keys("\ue014", "d")  # ED at the next frame
    page.changed(off)
    page.wait("document.getElementById('caption').textContent.includes('ED')")
    page.wait("document.querySelectorAll('.thumb').length === 18")
    page.js("document.getElementById('comment').value = 'cavity was too small'")
    page.js("document.getElementById('save').click()")
    page.wait("document.getElementById('status').textContent.startsWith('Saved')")
    row = last_row(out)
    assert (row.decision, row.ed_frame, row.comment) == ("saved", 1, "cavity was too small")
    assert row.seconds is not None
    labels, _ = load(out / "review" / row.mask)
    own, _ = load(out / "scans" / "ALPHA" / "001" / "baseline" / "segmentation.nii.gz")
    where = np.argwhere((labels != own).any(axis=(2, 3))).tolist()
    assert where == [[0, 1], [0, 4]]


def decide(page: Page, server: ServerProcess, out: Path, first) -> list[list[str]]:
    """What was saved is there; accept, reject, accept; all of it after a reload."""
    page.driver.get(server.address)
    page.wait("document.querySelectorAll('.row').length === 6")
    assert last_row(out) == first  # of the edit that was on its way nothing is half there
    page.open("001")
    assert page.js("return document.getElementById('comment').value") == "cavity was too small"
    shown = page.measures()
    page.keys("a")
    page.wait("document.getElementById('progress').textContent === '1 of 6 reviewed'")
    assert (last_row(out).decision, last_row(out).after) == ("edited", first.after)
    page.keys("\ue00c")
    page.wait("!document.getElementById('overview').hidden")
    page.open("002")
    page.keys("r")
    page.wait("document.getElementById('reject-dialog').open")
    page.click("#other-reason")
    page.keys("blurred, <b>very</b>", "\ue007")
    page.wait("document.getElementById('progress').textContent === '2 of 6 reviewed'")
    assert last_row(out).reason == "blurred, <b>very</b>"
    page.keys("\ue00c")
    page.open("003")
    page.keys("a")
    page.wait("document.getElementById('progress').textContent === '3 of 6 reviewed'")
    page.keys("\ue00c")
    page.driver.get(server.address)
    page.wait("document.querySelectorAll('.row').length === 6")
    found = page.js(
        "return Object.fromEntries([...document.querySelectorAll('.row')].map(r =>"
        " [r.children[2].textContent, r.querySelector('.accepted,.edited,.rejected')?.textContent"
        " ?? '']))"
    )
    assert [found[p] for p in ("001", "002", "003", "004")] == [
        "edited", "rejected", "accepted", ""
    ]  # fmt: skip
    # The killed server, and the scan that is in no cohort; no error of a script or of the policy.
    known = ("net::ERR_", "(Unprocessable Entity)")
    errors = [e["message"] for e in page.driver.get_log("browser") if e["level"] == "SEVERE"]
    assert [e for e in errors if not any(text in e for text in known)] == []
    return shown
