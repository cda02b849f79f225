"""The pages in headless Chromium: no error, every chart drawn, hover, keys, dark, narrow, print, axe-core."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.other_headlines import in_decibels, in_errors
from helpers.sweep_table import sweep_table

from dtp_edge.report import compare_reports, write_report, write_sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="the test extra installs playwright")

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET = "--disable-component-update --disable-sync"
CHARTS = ("budgets", "accuracy", "strip", "layers", "widths", "stairs", "memory", "training")
NASTY = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\"🦜" + "x" * 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS.split(), *QUIET.split()])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file; fail at the end if the page wrote to the console, threw, or asked for anything."""
    faults: list[str] = []
    contexts = []

    def visit(path: Path, *, width: int = 1280, dark: bool = False) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(120_000)  # a busy machine takes its time
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: request.url == path.as_uri() or refuse(request.url))
        page.goto(path.as_uri())
        page.wait_for_load_state("load")
        return page

    def refuse(url: str) -> None:
        if not url.startswith("data:"):
            faults.append(f"asked for {url}")

    yield visit
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def page_file(report: dict[str, Any], tmp_path: Path) -> Path:
    return write_report(tmp_path, report)


def assert_no_serious_fault(page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert not bad


@pytest.mark.parametrize("width", [360, 1280])
def test_every_chart_is_drawn_and_nothing_sticks_out(
    open_page: Callable[..., Any], page_file: Path, width: int
) -> None:
    page = open_page(page_file, width=width)
    for name in CHARTS:
        svg = page.locator(f"#chart-{name} svg")
        assert svg.count() == 1, name
        box = svg.bounding_box()
        assert box["height"] > 60
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1
        assert svg.locator("rect, path, circle").count() > 1, name
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_headline_in_its_own_unit_is_drawn(
    open_page: Callable[..., Any], report: dict[str, Any], tmp_path: Path
) -> None:
    page = open_page(write_report(tmp_path, in_decibels(report)))
    for name in ("accuracy", "training"):
        assert page.locator(f"#chart-{name} svg").locator("rect, path, circle").count() > 1
    assert " dB" in page.locator("#chart-accuracy").text_content()
    assert "PSNR, " in page.locator("#chart-training").text_content()
    errors = open_page(write_sweep(tmp_path / "sweep", in_errors(sweep_table(2, 12))))
    assert errors.locator("#front-0 svg").count() == 1
    assert "character error rate" in errors.locator("#front-0").text_content()


def test_hover_shows_the_value(
    open_page: Callable[..., Any], page_file: Path, report: dict[str, Any]
) -> None:
    page = open_page(page_file)
    chart = page.locator("#chart-layers")
    chart.scroll_into_view_if_needed()
    bar = chart.locator("g[aria-label=bar] rect").nth(5)
    bar.hover()
    tip = chart.locator("g[aria-label=tip]").last
    shown = tip.text_content()
    unfused = [layer for layer in report["layers"] if not layer["fused_into"]]
    assert unfused[5]["name"] in shown
    assert "conv3x3" in shown
    page.mouse.move(2, 2)
    page.wait_for_timeout(50)
    assert unfused[5]["name"] not in (chart.locator("g[aria-label=tip]").last.text_content() or "")


def test_arrow_keys_read_the_chart(open_page: Callable[..., Any], page_file: Path) -> None:
    page = open_page(page_file)
    for name in CHARTS:
        chart = page.locator(f"#chart-{name}")
        chart.focus()
        page.keyboard.press("Home")
        first = chart.locator("xpath=..").locator(".reading").text_content()
        page.keyboard.press("End")
        last = chart.locator("xpath=..").locator(".reading").text_content()
        assert first, name
        assert last, name
        assert first != last, name
        # the tip is drawn in the browser's next frame, which a busy machine delays
        chart.locator("g[aria-label=tip] text").first.wait_for(state="attached", timeout=10_000)


FOCUS = """() => {
  const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
  return {tag: e.tagName, id: e.id, text: e.textContent.trim().slice(0, 40), role: e.getAttribute("role"),
          name: e.getAttribute("aria-label") || e.textContent.trim(), outline: s.outlineStyle,
          thick: parseFloat(s.outlineWidth),
          seen: box.width > 0 && box.height > 0, x: box.x, right: box.right};
}"""


@pytest.mark.parametrize("width", [360, 1280])
def test_tab_walks_through_everything_and_shows_where_it_is(
    open_page: Callable[..., Any], page_file: Path, width: int
) -> None:
    page = open_page(page_file, width=width)
    stops: list[dict[str, Any]] = []
    while len(stops) < 200:
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if stop["tag"] == "BODY" or (stops and stop == stops[0]):
            break
        stops.append(stop)
        assert stop["seen"], stop
        assert stop["name"], stop
        assert stop["outline"] != "none" or stop["tag"] == "SELECT", stop
        assert stop["thick"] >= 1, stop
        assert stop["right"] > 0, stop
        assert stop["x"] < width, stop
    reached = {stop["id"] for stop in stops}
    assert {f"chart-{name}" for name in CHARTS} <= reached
    assert {"theme", "stairs-group"} <= reached
    assert sum(stop["tag"] == "SUMMARY" for stop in stops) == page.locator("summary:visible").count()
    assert sum(stop["tag"] == "A" for stop in stops) == page.locator("a:visible").count()
    assert sum(stop["tag"] == "BUTTON" for stop in stops) == page.locator("button:visible").count()


def test_keys_open_what_is_folded_and_close_what_hangs_over(
    open_page: Callable[..., Any], page_file: Path
) -> None:
    page = open_page(page_file)
    details = page.locator("details").first
    for key in ("Enter", "Space"):
        details.locator("summary").first.focus()
        page.keyboard.press(key)
        assert details.evaluate("d => d.open")
        page.keyboard.press(key)
        assert not details.evaluate("d => d.open")
    page.locator("#theme").focus()
    page.keyboard.press("Space")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    chart = page.locator("#chart-layers")
    chart.focus()
    page.keyboard.press("End")
    tip = chart.locator("g[aria-label=tip] text")
    tip.first.wait_for(state="attached", timeout=10_000)
    assert chart.locator("xpath=..").locator(".reading").text_content()
    page.keyboard.press("Escape")
    tip.first.wait_for(state="detached", timeout=10_000)
    assert not chart.locator("xpath=..").locator(".reading").text_content()


def test_dark_follows_the_system_and_the_button(open_page: Callable[..., Any], page_file: Path) -> None:
    def lightness(page: Any) -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(",")) / 3

    page = open_page(page_file, dark=True)
    assert lightness(page) < 60
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert lightness(page) > 240
    assert button.get_attribute("aria-pressed") == "false"
    assert lightness(open_page(page_file)) > 240
    label = "getComputedStyle(document.querySelector('#chart-layers svg text')).fill"
    dark = open_page(page_file, dark=True)
    assert dark.evaluate(label) != page.evaluate(label)  # the drawing turns with the page


def test_choices_change_the_picture(
    open_page: Callable[..., Any], make_report: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    page = open_page(write_report(tmp_path, make_report(300)))
    rows = "#chart-layers g[aria-label=bar] rect"
    assert page.locator(rows).count() == 2 * 20
    page.get_by_role("button", name="All layers, in order").click()
    assert page.locator(rows).count() >= 2 * 290
    page.get_by_role("button", name="groups").click()
    assert page.locator("#chart-widths g[aria-label=bar]").first.locator("rect").count() > 100
    before = page.locator("#chart-stairs").inner_html()
    page.locator("#stairs-group").select_option(index=0)
    assert page.locator("#chart-stairs").inner_html() != before


@pytest.mark.parametrize(("width", "dark"), [(1280, False), pytest.param(360, True, marks=pytest.mark.slow)])
def test_axe_finds_no_serious_fault(
    open_page: Callable[..., Any], page_file: Path, width: int, dark: bool
) -> None:
    page = open_page(page_file, width=width, dark=dark)
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true; }")
    assert_no_serious_fault(page)


def test_print_is_light_and_whole(open_page: Callable[..., Any], page_file: Path) -> None:
    page = open_page(page_file, dark=True)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.locator("#chart-layers svg").is_visible()
    assert len(page.pdf(format="A4")) > 20_000


def test_names_are_text_in_the_browser_too(
    open_page: Callable[..., Any], report: dict[str, Any], tmp_path: Path
) -> None:
    report["model"]["name"] = report["device"]["title"] = report["run"]["command"] = NASTY
    for row in (*report["layers"][:3], *report["groups"][:3], *report["frozen"], *report["checks"][:1]):
        row["name"] = NASTY
    report["layers"][1]["kernel"] = report["frozen"][0]["reason"] = report["suggestions"][0] = NASTY
    report["curves"][0]["phase"] = report["memory"]["dense"][0]["layer"] = NASTY
    for key in ("name", "chip", "runtime", "runtime_version", "precision", "provenance_text", "error_text"):
        report["device"][key] = NASTY
    report["run"]["data"] = report["files"][0]["path"] = report["model"]["weights_from"] = NASTY
    report["run"]["machine"]["cpu"] = report["budgets"][0]["asked_text"] = NASTY
    report["warnings"] = [NASTY]
    page = open_page(write_report(tmp_path, report), width=360)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img:not([src^='data:image/'])").count() == 0  # but the pictures of samples
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert NASTY in page.locator("h1").text_content()
    assert_no_serious_fault(page)


def test_names_are_text_where_runs_are_compared(
    open_page: Callable[..., Any], report: dict[str, Any], tmp_path: Path
) -> None:
    report["model"]["name"] = report["device"]["name"] = report["run"]["data"] = NASTY
    folders = [
        tmp_path / "<script>window.pwned=1<" / name for name in ("<img src=x onerror='pwned=1'>", '"🦜&amp;')
    ]
    for folder in folders:
        write_report(folder, report)
    page = open_page(compare_reports(folders).write(tmp_path / "compare.html"), width=360)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    text = page.locator("main").text_content()
    assert NASTY in text
    assert folders[0].name in text
    assert folders[1].name in text
    assert_no_serious_fault(page)


def test_a_bare_one_shot_report(
    open_page: Callable[..., Any], report: dict[str, Any], tmp_path: Path
) -> None:
    for key in ("accuracy", "layers", "groups", "memory", "curves", "frozen", "checks", "files"):
        report.pop(key)
    for key in ("depth", "calibration", "pictures", "formats", "int8"):
        report.pop(key, None)
    report["budgets"] = []
    page = open_page(write_report(tmp_path, report))
    assert page.locator("section").count() == 10
    assert_no_serious_fault(page)


def test_the_comparison_page(
    open_page: Callable[..., Any], make_report: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for name, scale, accuracy in (("a", 1.0, 0.95), ("b", 0.7, 0.93), ("c", 0.9, 0.92)):
        run = make_report()
        run["budgets"][0]["pruned_predicted"] *= scale
        run["accuracy"].update(pruned=accuracy, int8=None)
        write_report(tmp_path / name, run)
    path = compare_reports([tmp_path / n for n in "abc"]).write(tmp_path / "compare.html")
    for width in (360, 1280):
        page = open_page(path, width=width)
        cut = "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
        assert page.evaluate(cut) == (width == 360)  # no column of the table is cut on a desk
        assert page.locator("#pareto-0 svg circle, #pareto-0 svg [aria-label=dot] path").count() >= 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert_no_serious_fault(page)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_page_of_a_sweep(open_page: Callable[..., Any], tmp_path: Path, width: int, dark: bool) -> None:
    page = open_page(write_sweep(tmp_path, sweep_table(2, 12)), width=width, dark=dark)
    for number in range(2):
        assert page.locator(f"#front-{number} svg circle").count() >= 10
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    chart = page.locator("#front-0")
    chart.focus()
    page.keyboard.press("Home")
    assert "predicted" in chart.locator("xpath=..").locator(".reading").text_content()
    page.locator("details").first.locator("summary").click()
    assert_no_serious_fault(page)


def test_a_thousand_cells_can_be_chosen_and_ordered(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(write_sweep(tmp_path, sweep_table(10, 100)))
    rows = page.locator("#cells tbody tr:visible")
    assert rows.count() == 1000
    page.locator("select[data-by=state]").select_option("failed")
    assert rows.count() == 100
    page.locator("select[data-by=state]").select_option("")
    page.locator("select[data-by=device]").select_option(index=3)
    assert rows.count() == 100
    page.locator("select[data-order]").select_option("accuracy")
    shown = [float(value) for value in page.eval_on_selector_all(
        "#cells tbody tr:not([hidden])", "rows => rows.map(r => r.dataset.accuracy || '-1')"
    )]  # fmt: skip
    assert shown == sorted(shown, reverse=True)
    page.reload()  # as the page of a running sweep does by itself
    assert page.locator("#cells tbody tr:visible").count() == 100


def test_names_are_text_in_the_page_of_a_sweep(open_page: Callable[..., Any], tmp_path: Path) -> None:
    table = sweep_table(2, 3)
    table["model"] = table["data"] = table["command"] = table["devices"][0]["title"] = NASTY
    table["cells"][0] |= {"state": "failed", "reason": NASTY, "budget": NASTY}
    page = open_page(write_sweep(tmp_path, table), width=360)
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
