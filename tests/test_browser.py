"""Every chapter in a real browser: in JupyterLab with and without a kernel, and as a web page.

Each widget is moved by key and by mouse, and what it shows must follow.
"""

import functools
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import suppress

import pytest
from conftest import BOOK, CHAPTERS, ROOT
from lab import CHROMIUM, FLAGS, serve, watched

from normal_form import read

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [pytest.mark.browser,
              pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (or MINIDIFF_CHROMIUM)"),
              pytest.mark.parametrize("chapter", BOOK.chapters, ids=lambda c: c.file)]
PATIENCE_S = 20
RUN_S = 240       # for a chapter, on the busiest machine
LATENCY_S = 1.0   # from key to picture, in the median, there
sync_api.expect.set_options(timeout=1e3 * PATIENCE_S)

Form = namedtuple("Form", "widget slider track line choice play")
LIVE = Form(widget=".widget-vbox:has(> .widget-image)", slider="[role=slider]",
            track=".noUi-target", line="> .widget-html .widget-html-content",
            choice=".widget-toggle-button:not(.mod-active)", play=".widget-play button:visible")
SAVED = Form(widget="figure.minidiff", slider="input[type=range]", track="input[type=range]",
             line="p", choice="input[type=radio]:not(:checked)", play="button:has-text('Play')")
CELLS = "[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
ERRORS = ("[data-mime-type='application/vnd.jupyter.error'],"
          "[data-mime-type='application/vnd.jupyter.stderr']")

# What a widget shows: its pixels (none before it is drawn), its line of text.
LOOK = """async (widget, line) => {
    const shown = widget.querySelector("canvas, img"), copy = document.createElement("canvas");
    await shown.decode?.().catch(() => {});
    copy.width = shown.naturalWidth || shown.width;
    copy.height = shown.naturalHeight || shown.height;
    const context = copy.getContext("2d");
    context.drawImage(shown, 0, 0);
    const drawn = context.getImageData(1, 1, 1, 1).data[3] > 0;
    return [drawn ? copy.toDataURL() : "", widget.querySelector(`:scope ${line}`).textContent];
}"""
Look = namedtuple("Look", "pixels line")

# Least, present and greatest value of either kind of slider.
RANGE = """e => e.type === "range" ? [e.min, e.value, e.max].map(Number)
    : [e.ariaValueMin, e.ariaValueNow, e.ariaValueMax].map(Number)"""

# From now on, the milliseconds from a key to the new picture of a live widget.
WATCH = """image => {
    let start;
    window.latency = [];
    window.addEventListener("keydown", () => { start = performance.now(); }, true);
    image.addEventListener("load", () => latency.push(performance.now() - start));
}"""

# What of the widgets lies beyond the page's width.
BEYOND = """() => [...document.querySelectorAll("figure.minidiff, figure.minidiff *")].filter(
    e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 60))"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def context():
    """A browser of its own, with a fresh profile."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_context(viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture(scope="module")
def web_page(tmp_path_factory):
    """A function from a chapter to the file of its web page, as nbconvert makes it."""
    folder = tmp_path_factory.mktemp("html")

    @functools.cache
    def convert(chapter):
        subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", folder,
                        "--HTMLExporter.mathjax_url=", "--HTMLExporter.require_js_url=",
                        CHAPTERS / chapter.file], check=True, capture_output=True, cwd=ROOT)
        return (folder / chapter.file).with_suffix(".html")

    return convert


@pytest.fixture
def notebook(lab, context, tmp_path):
    """A function that opens a file of the book in JupyterLab, a kernel at its side."""
    with watched(context, lab.url, tmp_path) as page:

        def open_file(name):
            page.goto(f"{lab.url}lab/workspaces/{tmp_path.name}/tree/{BOOK.src}/{name}"
                      f"?token={lab.token}")
            cells = len(read(lab.root / BOOK.src / name).cells)
            sync_api.expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(cells)
            # the notebook's own idle mark shows before there is a kernel
            sync_api.expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
            return page

        yield open_file
    lab.stop_kernels()


def test_live_widgets_follow_key_and_mouse(notebook, chapter):
    """Run the whole chapter in JupyterLab; no cell fails, and every control moves its picture."""
    page = notebook(chapter.file)
    run_all(page)
    assert page.locator(ERRORS).all_inner_texts() == []
    assert cells_with(page, LIVE.widget) == widget_cells(chapter)
    for widget in page.locator(LIVE.widget).all():
        explore(widget, LIVE)
        seconds = latency(widget)
        print(f"{chapter.file}: key to picture in {1e3 * seconds:.0f} ms, the median of ten")
        assert seconds < LATENCY_S
        keeps_its_keys(page, widget.locator(LIVE.slider).first)
    assert page.locator(ERRORS).all_inner_texts() == []


def test_opening_and_saving_a_chapter_leaves_it_as_it_is(notebook, lab, chapter):
    """Or each look at the book would show up as a change to it."""
    page, saved = notebook(chapter.file), lab.root / BOOK.src / chapter.file
    before = saved.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    end = time.monotonic() + PATIENCE_S
    while saved.stat().st_mtime_ns == before:
        assert time.monotonic() < end, "it is not saved"
        page.wait_for_timeout(50)
    page.wait_for_timeout(500)
    assert saved.read_bytes() == (CHAPTERS / chapter.file).read_bytes()


def test_saved_widgets_work_before_any_cell_has_run(notebook, chapter):
    """The book's own chapters are trusted: saved widgets move and keep their keys from Lab."""
    page = notebook(chapter.file)
    assert cells_with(page, SAVED.widget) == widget_cells(chapter)
    assert page.locator(LIVE.widget).count() == 0
    for widget in page.locator(SAVED.widget).all():
        explore(widget, SAVED, mouse_first=False)
        keeps_its_keys(page, widget.locator(SAVED.slider).first)


def test_an_untrusted_chapter_shows_film_strips(notebook, lab, chapter):
    """Where scripts may not run there are pictures with words for them, and no dead controls."""
    name = f"untrusted_{chapter.file}"
    text = (CHAPTERS / chapter.file).read_text("utf-8")
    (lab.root / BOOK.src / name).write_text(text.replace("# Chapter", "# A chapter", 1), "utf-8")
    page = notebook(name)
    strips = page.locator(".jp-OutputArea-output img[alt]:not([alt=''])").filter(visible=True)
    wide = [s for s in strips.all() if "minidiff" in s.evaluate("e => e.parentElement.className")]
    assert len(wide) == len(widget_cells(chapter))
    assert all(strip.evaluate("e => e.decode().then(() => e.naturalWidth)") > 400 for strip in wide)
    assert page.locator(".jp-OutputArea-output").locator("input, canvas, button").count() == 0


def test_saved_widgets_work_on_a_web_page(context, web_page, tmp_path, chapter):
    """As nbconvert writes it: by key and mouse, wide and on a phone; no motion unasked."""
    file = web_page(chapter)
    with watched(context, file.as_uri(), tmp_path) as page:
        page.goto(file.as_uri())
        widgets = page.locator(SAVED.widget)
        assert widgets.count() == len(widget_cells(chapter))
        for widget in widgets.all():
            explore(widget, SAVED)
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_function(f"({BEYOND})().length === 0", timeout=1e3 * PATIENCE_S)
        page.emulate_media(reduced_motion="reduce")
        for widget in widgets.all():
            by_key(widget, SAVED, widget.locator(SAVED.slider).first)
            one_stride_only(widget)


def widget_cells(chapter):
    """Which cells of the stored chapter show a widget."""
    found = [i for i, cell in enumerate(read(CHAPTERS / chapter.file).cells)
             for output in cell.get("outputs", ())
             if '<figure class="minidiff">' in output.get("data", {}).get("text/html", "")]
    assert found, "a chapter has a widget"
    return found


def cells_with(page, selector):
    """The numbers of the notebook's cells that hold such an element, once for each; or are it."""
    return page.evaluate(
        f"""s => {CELLS}.flatMap((e, i) => s.startsWith(":scope")
            ? (e.matches(s.slice(6)) ? [i] : []) : [...e.querySelectorAll(s)].map(() => i))""",
        selector)


def run_all(page):
    """Run every cell, or all up to one that fails; nothing that was saved is left."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    choose(page, "Edit", "Clear Outputs of All Cells")
    sync_api.expect(prompts.last).to_have_text("[ ]:")
    choose(page, "Run", "Run All Cells")
    end = prompts.filter(has_text=f"[{prompts.count()}]:").or_(page.locator(ERRORS))
    sync_api.expect(end.first).to_be_attached(timeout=1e3 * RUN_S)
    sync_api.expect(page.locator("#jp-main-statusbar")).to_contain_text(
        "| Idle", timeout=1e3 * RUN_S)


def choose(page, menu, item):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def keeps_its_keys(page, slider):
    """Keys in a slider stay with it: the notebook selects no other cell."""
    active = cells_with(page, ":scope.jp-mod-active")
    for key in ("ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "Home", "End"):
        slider.press(key)
        assert cells_with(page, ":scope.jp-mod-active") == active, f"{key} moved the notebook"
        assert slider.evaluate("e => e === document.activeElement"), f"{key} left the slider"


def look(widget, form):
    return Look(*widget.evaluate(LOOK, form.line))


def until(widget, form, holds, what):
    """What the widget shows, as soon as that `holds`."""
    end = time.monotonic() + PATIENCE_S
    while not holds(seen := look(widget, form)):
        assert time.monotonic() < end, f"{what}; the widget still shows {seen.line!r}"
        widget.page.wait_for_timeout(20)
    return seen


def rest(widget, form, still_ms=200):
    """What the widget shows once nothing moves in it any more, and no kernel is at work on it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        seen = look(widget, form)
        widget.page.wait_for_timeout(still_ms)
        if form is LIVE:
            sync_api.expect(widget.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
        if look(widget, form) == seen:
            return seen
        assert time.monotonic() < end, "it does not come to rest"


def changes(widget, form, act, what, line=True):
    """Do something that must change the picture and the line; what both were before."""
    before = rest(widget, form)
    act()
    until(widget, form, lambda seen: seen.pixels != before.pixels
          and (seen.line != before.line or not line), what)
    return before


def explore(widget, form, mouse_first=True):
    """Move every control of a widget, by key and by mouse."""
    widget.scroll_into_view_if_needed()
    until(widget, form, lambda seen: seen.pixels, "it is not drawn")
    for slider, track in zip(widget.locator(form.slider).all(), widget.locator(form.track).all()):
        if mouse_first:
            by_mouse(widget, form, slider, track)
        by_key(widget, form, slider)
        by_mouse(widget, form, slider, track)
    for i in range(widget.locator(form.choice).count()):
        choice = widget.locator(form.choice).nth(i)
        changes(widget, form, choice.click, "a choice changes nothing", line=False)
    play = widget.locator(form.play).first
    changes(widget, form, play.click, "it does not play")
    halt(widget, form)


def by_key(widget, form, slider):
    least, now, greatest = slider.evaluate(RANGE)
    slider.focus()
    key, back = "ArrowLeft", "ArrowRight"
    if now < (least + greatest) / 2:
        key, back = back, key
    before = changes(widget, form, lambda: slider.press(key), f"its slider does not follow {key}")
    assert slider.evaluate(RANGE)[1] != now
    rest(widget, form)  # a live one's kernel may still be confirming the first key
    slider.press(back)
    until(widget, form, lambda seen: seen == before, "one state, two pictures")


def by_mouse(widget, form, slider, track):
    """Click on the far half of the slider's track, then drag the handle to the middle."""
    least, now, greatest = slider.evaluate(RANGE)
    box, mouse = track.bounding_box(), widget.page.mouse
    y, goal = box["y"] + box["height"] / 2, 0.2 if now > (least + greatest) / 2 else 0.8
    changes(widget, form, lambda: mouse.click(box["x"] + goal * box["width"], y),
            "its slider does not follow a click")
    rest(widget, form, 400)  # the live handle glides to where it was sent

    def drag():
        share = (slider.evaluate(RANGE)[1] - least) / (greatest - least)
        x = box["x"] + 8 + share * (box["width"] - 16)  # the handle stays within the track
        if form is LIVE:  # there the slider is its own handle, and tells its value to one decimal
            handle = slider.bounding_box()
            x = handle["x"] + handle["width"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] / 2, y, steps=5)
        mouse.up()

    changes(widget, form, drag, "its slider does not follow a drag")


def halt(widget, form):
    """Stop what plays: in either form the button that started it now pauses it."""
    with suppress(sync_api.TimeoutError):  # of few stops, it may have come to its end
        widget.locator(".widget-play button:visible, button:has-text('Pause')").first.click(
            timeout=2000)
    rest(widget, form, 400)


def one_stride_only(widget):
    """Where the reader wants no motion, one press of Play is one stride."""
    slider = widget.locator(SAVED.slider).first
    slider.press("Home")
    widget.locator(SAVED.play).first.click()
    value = slider.evaluate(RANGE)[1]
    widget.page.wait_for_timeout(500)
    assert slider.evaluate(RANGE)[1] == value != slider.evaluate(RANGE)[0]


def latency(widget):
    """Seconds from an arrow key to the new picture of a live widget, the median of ten."""
    page, image = widget.page, widget.locator("> .widget-image")
    image.evaluate(WATCH)
    slider = widget.locator(LIVE.slider).first
    slider.focus()
    slider.press("Home")
    page.wait_for_timeout(500)
    page.evaluate("latency.length = 0")
    for i in range(10):
        slider.press("ArrowRight" if i % 8 < 4 else "ArrowLeft")  # which is five stops at most
        page.wait_for_function(f"latency.length > {i}", timeout=1e3 * PATIENCE_S)
    return statistics.median(page.evaluate("latency")) / 1e3
