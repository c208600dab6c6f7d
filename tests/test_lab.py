"""Every chapter in JupyterLab: as it was saved, then run; how quick its widgets are, how steady.

A chapter is opened once, and these tests follow each other on it.
"""

import statistics
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from conftest import BOOK, CHAPTERS
from explore import LIVE, PATIENCE_S, SAVED, explore, rest, sync_api
from lab import CHROMIUM, FLAGS, serve, watched
from nbformat.v4 import new_notebook

from normal_form import dumps, normal_form, read

pytestmark = [pytest.mark.browser,
              pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (or MINIDIFF_CHROMIUM)")]
RUN_S = 900  # for a chapter, on the busiest machine
SCHEDSTAT = "task/*/schedstat"  # of a process: where Linux says how long it waited for a core
# From key or click to picture, in the median, on a quiet machine; or on any, where that isn't told.
LATENCY_S = 0.15 if any(Path("/proc/self").glob(SCHEDSTAT)) else 1.0

CELLS = "[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
STRIP = ".minidiff > img[alt]:not([alt=''], [alt='Image'])"  # which is Lab's word for no words
ERRORS = ("[data-mime-type='application/vnd.jupyter.error'],"
          "[data-mime-type='application/vnd.jupyter.stderr']")

# The seconds from the next key or click to the next picture of a live widget.
ANSWER = """image => {
    window.answer = new Promise((done, fail) => {
        let start;
        const begin = () => {
            start = performance.now();
            image.addEventListener("load", () => done((performance.now() - start) / 1e3), once);
        };
        const once = { capture: true, once: true };
        window.addEventListener("keydown", begin, once);
        window.addEventListener("pointerdown", begin, once);
        setTimeout(fail, 20000, "no new picture");
    });
}"""

# From now on, what each frame shows of a live widget; `cut()` ends it and tells what was seen:
# how many frames and pictures, the least share of what was drawn at first that a frame has still,
# all places where the widget's parts were, and what else moved in the notebook.
FILM = """widget => {
    const image = widget.querySelector("img"), size = [120, 80];
    const context = new OffscreenCanvas(...size).getContext("2d", { willReadFrequently: true });
    const frames = [], places = new Set(), moved = [];
    let pictures = 0, next;

    const observer = new PerformanceObserver((list) => moved.push(...list.getEntries()
        .flatMap((shift) => shift.sources.map(({ node }) => node?.parentElement))
        .filter((e) => e?.closest(".jp-Notebook")).map((e) => e.className)));
    const count = () => { pictures += 1; };
    const frame = () => {
        next = requestAnimationFrame(frame);
        places.add([widget, ...widget.children].map(
            (e) => Object.values(e.getBoundingClientRect().toJSON())).join());
        if (!image.complete) return; // its last picture is still there, but none can be copied
        context.clearRect(0, 0, ...size);
        if (image.naturalWidth) context.drawImage(image, 0, 0, ...size);
        frames.push(new Uint32Array(context.getImageData(0, 0, ...size).data.buffer));
    };
    window.cut = () => {
        cancelAnimationFrame(next);
        observer.disconnect();
        image.removeEventListener("load", count);
        const white = 0xffffffff, none = 0;
        const at = [...frames[0].keys()].filter((i) => ![white, none].includes(frames[0][i]));
        const kept = (f) => at.filter((i) => ![white, none].includes(f[i])).length / at.length;
        return { frames: frames.length, pictures, kept: Math.min(...frames.map(kept)),
                 places: [...places], moved };
    };
    observer.observe({ type: "layout-shift" });
    image.addEventListener("load", count);
    frame();
}"""


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


@pytest.fixture(scope="module", params=BOOK.chapters, ids=lambda chapter: chapter.file)
def chapter(request):
    return request.param


@pytest.fixture(scope="module")
def page(lab, context, chapter, tmp_path_factory):
    """The chapter in JupyterLab."""
    try:
        with watched(context, lab.url, tmp_path_factory.mktemp("page")) as page:
            open_file(page, lab, chapter.file)
            yield page
    finally:
        lab.stop_kernels()


@pytest.fixture(scope="module")
def ran(page):
    """The chapter after its cells have run, or all up to one that fails; nothing saved is left."""
    await_idle(page)
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    choose(page, "Edit", "Clear Outputs of All Cells")
    sync_api.expect(prompts.last).to_have_text("[ ]:")
    choose(page, "Run", "Run All Cells")
    end = prompts.filter(has_text=f"[{prompts.count()}]:").or_(page.locator(ERRORS))
    sync_api.expect(end.first).to_be_attached(timeout=1e3 * RUN_S)
    await_idle(page)
    return page


def test_untrusted_widgets_are_film_strips(lab, context, tmp_path):
    """Where scripts may not run there are pictures with words for them, and no dead controls."""
    cells = [cell for chapter in BOOK.chapters for cell in read(CHAPTERS / chapter.file).cells
             if shows_widget(cell)]
    text = dumps(normal_form(new_notebook(cells=cells)))
    (lab.root / BOOK.src / "untrusted.ipynb").write_text(text, "utf-8")
    with watched(context, lab.url, tmp_path) as page:
        open_file(page, lab, "untrusted.ipynb")
        assert cells_with(page, STRIP) == list(range(len(cells)))
        for strip in page.locator(STRIP).all():
            assert strip.evaluate("e => e.decode().then(() => e.width)") > 400
        outputs = page.locator(".jp-OutputArea-output")
        assert outputs.locator("input, canvas, button").count() == 0


def test_saved_widgets_work_before_any_cell_has_run(page, chapter):
    """The book's own chapters are trusted: saved widgets move and keep their keys from Lab."""
    assert cells_with(page, SAVED.widget) == widget_cells(chapter)
    assert page.locator(LIVE.widget).count() == 0
    for widget in page.locator(SAVED.widget).all():
        explore(widget, SAVED, mouse_first=False)
        keeps_its_keys(page, widget.locator(SAVED.slider).first)


def test_opening_and_saving_a_chapter_leaves_it_as_it_is(page, lab, chapter):
    """Or each look at the book would show up as a change to it."""
    await_idle(page)
    saved = lab.root / BOOK.src / chapter.file
    before = saved.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    end = time.monotonic() + PATIENCE_S
    while saved.stat().st_mtime_ns == before:
        assert time.monotonic() < end, "it is not saved"
        page.wait_for_timeout(50)
    page.wait_for_timeout(500)
    assert saved.read_bytes() == (CHAPTERS / chapter.file).read_bytes()


def test_live_widgets_follow_key_and_mouse(ran, chapter):
    """No cell of the chapter fails, and every control moves its picture."""
    assert ran.locator(ERRORS).all_inner_texts() == []
    assert cells_with(ran, LIVE.widget) == widget_cells(chapter)
    for widget in ran.locator(LIVE.widget).all():
        explore(widget, LIVE)
        keeps_its_keys(ran, widget.locator(LIVE.slider).first)
    assert ran.locator(ERRORS).all_inner_texts() == []


def test_live_widgets_answer_quickly(ran, chapter, record_property):
    for number, widget in enumerate(live_widgets(ran, chapter), 1):
        for name, acts in (("key", keys(widget)), ("click", clicks(widget))):
            seconds, lost = latency(widget, acts)
            said = f"{1e3 * seconds:.0f} ms from {name} to picture"
            print(f"{chapter.file}, widget {number}: {said}, {1e3 * lost:.0f} of them lost")
            record_property(f"{chapter.file}, widget {number}", said)
            assert seconds - lost < LATENCY_S


def test_live_widgets_do_not_flicker(ran, chapter):
    """While keys are held down no frame lacks the picture, and nothing moves from its place."""
    for widget in live_widgets(ran, chapter):
        widget.locator(LIVE.slider).first.press("Home")
        before = rest(widget, LIVE)
        widget.evaluate(FILM)
        for key in ("ArrowRight", "ArrowLeft"):
            for _ in range(8):
                ran.keyboard.down(key)
                ran.wait_for_timeout(33)
            ran.keyboard.up(key)
        after, film = rest(widget, LIVE), ran.evaluate("cut()")
        assert after == before and film["pictures"] > 1 and film["frames"] > 5
        assert film["kept"] > 0.5, "a frame lacks the picture"
        assert len(film["places"]) == 1 and film["moved"] == [], "it moves from its place"


def open_file(page, lab, name):
    """Open a file of the book in JupyterLab, which begins to start a kernel for it."""
    page.goto(f"{lab.url}lab/workspaces/{Path(name).stem}/tree/{BOOK.src}/{name}"
              f"?token={lab.token}")
    cells = len(read(lab.root / BOOK.src / name).cells)
    sync_api.expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(cells)


def await_idle(page):
    """Wait for the kernel. The notebook's own idle mark shows before there is one."""
    sync_api.expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")


def choose(page, menu, item):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def shows_widget(cell):
    return any('<figure class="minidiff">' in output.get("data", {}).get("text/html", "")
               for output in cell.get("outputs", ()))


def widget_cells(chapter):
    """Which cells of the stored chapter show a widget."""
    cells = read(CHAPTERS / chapter.file).cells
    found = [i for i, cell in enumerate(cells) if shows_widget(cell)]
    assert found, "a chapter has a widget"
    return found


def cells_with(page, selector):
    """The numbers of the notebook's cells that hold such an element, once for each; or are it."""
    return page.evaluate(
        f"""s => {CELLS}.flatMap((e, i) => s.startsWith(":scope")
            ? (e.matches(s.slice(6)) ? [i] : []) : [...e.querySelectorAll(s)].map(() => i))""",
        selector)


def live_widgets(page, chapter):
    """All of the chapter, at rest."""
    widgets = page.locator(LIVE.widget)
    sync_api.expect(widgets).to_have_count(len(widget_cells(chapter)))
    for widget in widgets.all():
        rest(widget, LIVE)
    return widgets.all()


def keeps_its_keys(page, slider):
    """Keys in a slider stay with it: the notebook selects no other cell."""
    active = cells_with(page, ":scope.jp-mod-active")
    for key in ("ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "Home", "End"):
        slider.press(key)
        assert cells_with(page, ":scope.jp-mod-active") == active, f"{key} moved the notebook"
        assert slider.evaluate("e => e === document.activeElement"), f"{key} left the slider"


def keys(widget):
    """Seven ways to move the first slider by key, from its start and back."""
    slider = widget.locator(LIVE.slider).first
    return [partial(slider.press, f"Arrow{way}") for way in 4 * ["Right"] + 3 * ["Left"]]


def clicks(widget):
    """Seven by a click on its track, far from the handle."""
    track = widget.locator(LIVE.track).first
    box = track.bounding_box()
    return [partial(track.click, position={"x": share * box["width"], "y": box["height"] / 2})
            for share in 3 * [0.8, 0.2] + [0.8]]


def latency(widget, acts):
    """Seconds from an act to the new picture, and how many of them were lost: medians."""
    widget.locator(LIVE.slider).first.press("Home")
    times, losses = [], []
    for act in acts:
        rest(widget, LIVE)
        widget.locator("> .widget-image").evaluate(ANSWER)
        before = waits()
        act()
        times.append(widget.page.evaluate("answer"))
        after = waits()
        lost = (after[thread] - before.get(thread, 0) for thread in after)
        losses.append(max(lost, default=0.0))  # which only Linux tells
    return statistics.median(times), statistics.median(losses)


def waits():
    """For each thread of server and kernels, the seconds it was ready to run and others ran."""
    return {file: int(file.read_text().split()[1]) / 1e9
            for process in psutil.Process().children(recursive=True)
            if "python" in process.name()
            for file in Path(f"/proc/{process.pid}").glob(SCHEDSTAT)}
