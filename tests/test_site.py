"""The HTML book: complete, offline, every link whole; and a book with mistakes is refused."""

import functools
import re
import shutil
import time
from contextlib import ExitStack, closing
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from conftest import BOOK, CHAPTERS, ROOT
from explore import RANGE, SAVED, changes, explore, halt, one_stride_only, rest
from lab import CHROMIUM, FLAGS, watched
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import webbook
from crossrefs import TAG
from normal_form import METADATA, read
from sphinx.errors import SphinxError

# What the libraries say to one another of their next versions is not the book's affair.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
BUILD_S, LARGEST = 60, 40e6
GENERATED = {"index", "notation", "package", "references", "gallery", "genindex", "search"}


class Page(HTMLParser):
    """What a page asks for and what it offers."""

    def __init__(self, file):
        super().__init__()
        self.ids, self.links, self.parts = set(), [], []
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("img", "script", "link", "iframe", "source", "video", "object"):
            self.parts += [values[key] for key in ("src", "href", "data") if values.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book, built once."""
    folder = tmp_path_factory.mktemp("html") / "site"
    start = time.process_time()
    webbook.build(folder)
    assert time.process_time() - start < BUILD_S
    return folder


@pytest.fixture(scope="module")
def parsed(site):
    """A function from a page's path to what is in it."""
    return functools.cache(lambda file: Page(file))


def test_every_page_is_there_and_the_whole_is_small(site):
    names = {file.stem for file in site.glob("*.html")}
    assert names == GENERATED | {chapter.stem for chapter in BOOK.chapters}
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    print(f"the site: {size / 1e6:.1f} MB")
    assert size <= LARGEST


def test_nothing_on_a_page_comes_from_elsewhere(site, parsed):
    """What a page loads lies in the folder; style sheets load nothing but their fonts."""
    for file in site.glob("*.html"):
        for part in parsed(file).parts:
            assert part.startswith("data:") or inside(site, file, part).is_file(), (file, part)
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"url\(['\"]?(.*?)['\"]?\)", sheet.read_text("utf-8")):
            assert not re.match("(https?:)?//", address), (sheet, address)
            assert "woff2" not in address or (sheet.parent / address).is_file(), (sheet, address)


def test_every_link_leads_somewhere(site, parsed):
    """To a file of the site, and to an anchor on its page."""
    count = 0
    for file in site.glob("*.html"):
        for link in parsed(file).links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                continue
            target = inside(site, file, link)
            assert target.is_file(), (file.name, link)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in parsed(target).ids, (file.name, link)
                count += 1
    assert count > 1000


def inside(site, file, link):
    """The file that a relative link means."""
    path = unquote(urlsplit(link).path)
    target = (file.parent / path).resolve() if path else file
    assert target == site or site in target.parents, f"{link} leads out of the site"
    return target


@pytest.mark.parametrize("chapter", BOOK.chapters, ids=lambda c: c.file)
def test_a_chapter_is_whole(site, parsed, chapter):
    """Its sections, equations, exercises, solutions, figures, widgets and its own notebook."""
    nb, file = read(CHAPTERS / chapter.file), site / f"{chapter.stem}.html"
    here, text = parsed(file), file.read_text("utf-8")
    prose = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^### Exercise (\d+\.\d+)", prose, re.MULTILINE)
    wanted = [f"section-{n}" for n in re.findall(r"^## (\d+\.\d+)", prose, re.MULTILINE)]
    wanted += [f"exercise-{n}" for n in exercises] + [f"equation-{n}" for n in TAG.findall(prose)]
    assert len(wanted) > 8 and set(wanted) <= here.ids
    assert text.count('<details class="solution">\n<summary>') == len(exercises) > 0
    outputs = [output for cell in nb.cells for output in cell.get("outputs", ())]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert len([part for part in here.parts if part.startswith("_images/")]) >= figures > 0
    widgets = [output.data["text/html"] for output in outputs
               if "minidiff-payload" in output.get("data", {}).get("text/html", "")]
    assert widgets and all(widget in text for widget in widgets)
    copy = site / BOOK.src / chapter.file
    assert f'href="{BOOK.src}/{chapter.file}" download' in text
    assert copy.read_bytes() == (CHAPTERS / chapter.file).read_bytes()


def test_chapters_come_in_the_manifests_order(site):
    """In the side bar, by its titles; each page leads to the next."""
    text = (site / "index.html").read_text("utf-8")
    places = [text.index(f'href="{c.stem}.html">{c.number}. {c.title}<') for c in BOOK.chapters]
    assert places == sorted(places)
    assert all(part.title in text for part in BOOK.parts)
    for before, after in zip(BOOK.chapters, BOOK.chapters[1:]):
        assert f'<a class="next-page" href="{after.stem}.html">' in (
            site / f"{before.stem}.html").read_text("utf-8")


# A book of one page, to make mistakes in.

GOOD = """## 1.1 A step

As Ho et al. (2020) have it, by `sampler.ddim` and section 1.1 (or section 1.1):

$$x = y \\tag{1.1}$$

Equation (1.1) is all of chapter 1, but not (Ho et al., 2020, section 7.7), nor their section 7.8."""
LIST = """## References

- J. Ho, A. Jain and P. Abbeel, [Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239), NeurIPS 2020. See section 8.8."""
EXERCISE = "### Exercise 1.1 · Do it"


@pytest.fixture
def small(tmp_path):
    """The folder of a book of one chapter; a function that gives the chapter this text."""
    root = tmp_path / "book"
    shutil.copytree(ROOT / "minidiff", root / "minidiff", ignore=lambda folder, names: [
        name for name in names if name not in ("sampler.py", "__init__.py")])
    for name in ("LICENSE", "LICENSE-TEXT", "CITATION.cff"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "pictures", root / "pictures")
    (root / "README.md").write_text("# Small\n\n## Contents\n\n<!-- contents -->\n<!-- /contents -->\n")
    manifest = (ROOT / "book.toml").read_text("utf-8").split("[[part.chapter]]")
    (root / "book.toml").write_text("[[part.chapter]]".join(manifest[:2]), "utf-8")
    chapter, folder = BOOK.chapters[0], root / BOOK.src
    (folder / "solutions").mkdir(parents=True)
    (folder / "notation.md").write_text("# Notation\n", "utf-8")
    widget = next(o for cell in read(CHAPTERS / chapter.file).cells for o in cell.get("outputs", ())
                  if '"name": "noising"' in o.get("data", {}).get("text/html", ""))
    png = next(o for cell in read(CHAPTERS / chapter.file).cells for o in cell.get("outputs", ())
               if "image/png" in o.get("data", {}))
    answer = [new_markdown_cell("# Solutions", id="title"),
              new_markdown_cell(f"#{EXERCISE[2:]}\n\nThe answer.", id="a"),
              new_code_cell("answer", id="check")]
    notebook = functools.partial(new_notebook, metadata=METADATA)
    nbformat.write(notebook(cells=answer), folder / "solutions" / chapter.file)

    def write(text=GOOD):
        cells = [new_markdown_cell(f"# Chapter 1 · {chapter.title}", id="title"),
                 new_markdown_cell(text, id="text"),
                 new_code_cell("draw()", id="draw", outputs=[png, widget],
                               metadata={"tags": ["gallery", "cover"]}),
                 new_markdown_cell("**What you should see.** A *cloud*.", id="see"),
                 new_markdown_cell(EXERCISE, id="exercise"), new_code_cell("...", id="check"),
                 new_markdown_cell(LIST, id="references")]
        nbformat.write(notebook(cells=cells), folder / chapter.file)
        return root

    return write


def test_words_become_links_and_a_solution_is_folded_in(small, tmp_path):
    webbook.build(tmp_path / "site", small())
    text = (tmp_path / "site" / "01_noise.html").read_text("utf-8")
    for words, address in {
            "Ho et al. (2020)": "references.html#ho-2020", "section 1.1": "01_noise.html#section-1.1",
            "Equation (1.1)": "01_noise.html#equation-1.1", "chapter 1": "01_noise.html"}.items():
        assert re.search(rf'<a class="reference internal" href="{address}"( title="[^"]+")?>'
                         rf"{re.escape(words)}</a>", text), words
    assert re.search(r'href="package.html#minidiff.sampler.ddim"><code[^>]*><span class="pre">'
                     r'sampler.ddim', text)
    assert 'title="A step">section 1.1' in text and 'title="Denoising diffusion' in text
    assert text.count('>section 1.1<') == 1, "a place is linked once in a paragraph"
    assert "#section-7." not in text and "#section-8.8" not in text
    assert 'alt="A cloud."' in text
    fold, end = text.index('<details class="solution">'), text.index("</details>", 1)
    assert fold < text.index("The answer.") < text.index(">answer<") < text.index(
        "</details>", fold)


@pytest.mark.parametrize("mistake, complaint", [
    ("It is in section 1.2.", "there is no section 1.2"),
    ("See chapters 1 and 2.", "there is no chapter 2"),
    ("By equation (1.2).", "there is no equation 1.2"),
    ("As in exercise 2.1.", "there is no exercise 2.1"),
    ("By Song et al. (2021).", "Song et al."),
    ("[Here](02_score.ipynb).", "02_score.ipynb"),
    ("$$y \\tag{1.1}$$", "equation 1.1 must be one of a kind"),
])
def test_a_mistake_is_named_and_leaves_the_old_site(small, tmp_path, capfd, mistake, complaint):
    folder, root = tmp_path / "site", small(f"{GOOD}\n\n{mistake}")
    folder.mkdir()
    (folder / webbook.MADE).touch()
    assert webbook.main([str(folder)], root) == 1
    assert complaint in capfd.readouterr().err
    assert [file.name for file in folder.iterdir()] == [webbook.MADE]


def test_a_folder_of_somebody_elses_is_left_alone(small, tmp_path, capfd):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert webbook.main([str(tmp_path / "mine")], small()) == 1
    assert "must be new, empty, or an earlier site" in capfd.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("remote, name", [
    ("https://github.com/someone/minidiff.git", "someone/minidiff"),
    ("git@github.com:some-one/mini.diff", "some-one/mini.diff"),
    ("https://token@github.com/someone/minidiff/", "someone/minidiff"),
    ("https://example.org/someone/minidiff.git", None),
    (None, None),
])
def test_links_lead_to_where_this_copy_was_cloned_from(tmp_path, remote, name):
    (tmp_path / ".git").mkdir()
    origin = f'[remote "origin"]\n\tfetch = +refs/heads/*:x\n\turl = {remote}\n' * bool(remote)
    (tmp_path / ".git" / "config").write_text(
        f'[core]\n\tbare = false\n{origin}[remote "other"]\n\turl = '
        "https://github.com/other/minidiff\n")
    assert webbook.repository(tmp_path) == name
    assert webbook.repository(tmp_path / "nowhere") is None


def test_a_clone_from_github_has_links_to_it_and_to_binder(small, tmp_path, monkeypatch):
    monkeypatch.setattr(webbook, "repository", lambda root: "someone/minidiff")
    webbook.build(tmp_path / "site", small())
    text = (tmp_path / "site" / "01_noise.html").read_text("utf-8")
    assert 'href="https://github.com/someone/minidiff/blob/HEAD/chapters/01_noise.ipynb"' in text
    assert ('href="https://mybinder.org/v2/gh/someone/minidiff/HEAD?labpath=chapters/01_noise.ipynb"'
            in text)
    assert "https://github.com/someone/minidiff/blob/HEAD/minidiff/sampler.py#L" in (
        tmp_path / "site" / "package.html").read_text("utf-8")


# In a browser.

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = sync_api.expect
browser_test = lambda test: pytest.mark.browser(pytest.mark.skipif(
    not CHROMIUM, reason="needs Chromium (or MINIDIFF_CHROMIUM)")(test))
PAGES = sorted(GENERATED | {chapter.stem for chapter in BOOK.chapters})
WITH_WIDGETS = ["index", *(chapter.stem for chapter in BOOK.chapters)]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 400, "height": 800}}

# What is wrong with how a page is drawn.
FAULTS = r"""async () => {
    await document.fonts.ready;
    const faults = [], say = (what, e) => faults.push(`${what}: ${e.outerHTML.slice(0, 120)}`);
    for (const math of document.querySelectorAll(".math"))
        if (!math.querySelector(".katex") || math.querySelector(".katex-error")) say("math", math);
    for (const math of document.querySelectorAll("span.math")) {
        const piece = [...math.querySelectorAll(".katex-base")].at(-1), stop = document.createRange();
        stop.selectNodeContents(piece.nextSibling ?? math.nextSibling ?? piece);
        const end = piece.getBoundingClientRect().right;
        if (/^[.,;:!?)]/.test(stop) && stop.getClientRects()[0].left < end - 2)
            say("a stop on a new line", math);
    }
    for (const math of document.querySelectorAll("div.math")) {
        const [tag] = math.querySelectorAll(".katex-tag");
        const end = tag?.previousElementSibling.getBoundingClientRect().right;
        if (tag && tag.getBoundingClientRect().left < end + 4) say("on its number", math);
        if (!tag !== !math.textContent.includes("\\tag{")) say("a lost number", math);
        if (innerWidth > 1000 && math.scrollWidth > math.clientWidth + 1) say("too wide", math);
    }
    const text = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (text.nextNode()) {
        const parent = text.currentNode.parentElement;
        if (/\\(begin|frac|alpha|sigma)|\$\$/.test(text.currentNode.data)
            && !parent.closest("pre, code, script, style, annotation")) say("raw TeX", parent);
    }
    for (const image of document.images) {
        image.loading = "eager";
        await image.decode().catch(() => say("image", image));
        if (!image.alt) say("no words for", image);
    }
    if (document.documentElement.scrollWidth > innerWidth) {
        faults.push(`${document.documentElement.scrollWidth} px wide`);
        for (const e of document.querySelectorAll("article *"))
            if (e.getBoundingClientRect().right > innerWidth + 1) say("sticks out", e);
    }
    return faults.slice(0, 9);
}"""
BRIGHTNESS = """e => getComputedStyle(e).backgroundColor.match(/[0-9.]+/g).slice(0, 3)
    .reduce((sum, n) => sum + Number(n) / 765, 0)"""
# From now on, how far things on the page jump.
SHIFTS = """() => {
    window.shifts = [];
    new PerformanceObserver((list) => shifts.push(...list.getEntries().flatMap((entry) =>
        entry.sources.map((s) => `${entry.value}: ${s.node?.outerHTML?.slice(0, 80)}`)))
    ).observe({ type: "layout-shift" });
}"""


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, site, tmp_path):
    """A function that opens a page of the site from the disk: nothing may be asked for elsewhere,
    nothing fail."""
    failed = []
    with ExitStack() as stack:

        def go(name, size="desktop", **options):
            context = stack.enter_context(closing(chromium.new_context(
                viewport=SIZES[size], **options)))
            page = stack.enter_context(watched(context, f"{site.as_uri()}/", tmp_path))
            page.on("requestfailed", lambda request: failed.append(request.url))
            page.goto(f"{site.as_uri()}/{name}")
            return page

        yield go
    assert failed == []


@browser_test
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_well(visit, name):
    """All its mathematics and pictures, no wider than the window, in either size and colour."""
    for size in SIZES:
        for scheme in ("light", "dark"):
            page = visit(f"{name}.html", size, color_scheme=scheme)
            assert page.evaluate(FAULTS) == [], (size, scheme)
            assert (page.locator("body").evaluate(BRIGHTNESS) < 0.2) == (scheme == "dark")
            for figure in page.locator("div.cell_output > img, figure.minidiff > div").all():
                assert figure.evaluate(BRIGHTNESS) == 1, "figures are drawn on white"
            page.close()


@browser_test
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_saved_widgets_work(visit, name):
    """By key and mouse, forwards and back; nothing jumps; and they say what they are."""
    page = visit(f"{name}.html")
    widgets = page.locator(SAVED.widget)
    assert widgets.count() > 0
    for widget in widgets.all():
        rest(widget, SAVED)
        page.evaluate(SHIFTS)
        explore(widget, SAVED)
        play_back(widget)
        assert page.evaluate("shifts") == []
        for slider in widget.get_by_role("slider").all():
            assert slider.evaluate("e => e.labels[0].textContent.trim()")
        expect(widget.get_by_role("img", name="Now")).to_have_count(1)


@browser_test
@pytest.mark.parametrize("name", WITH_WIDGETS)
def test_saved_widgets_work_on_a_phone(visit, name):
    """By touch, within the screen, and with no motion where none is wanted."""
    page = visit(f"{name}.html", "phone", has_touch=True, is_mobile=True, reduced_motion="reduce")
    for widget in page.locator(SAVED.widget).all():
        by_touch(page, widget, widget.locator(SAVED.slider).first)
        one_stride_only(widget)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]


def play_back(widget):
    """From the end, the button that plays backwards does."""
    slider = widget.locator(SAVED.slider).first
    slider.press("End")
    changes(widget, SAVED, widget.get_by_role("button", name="Reverse").first.click,
            "it does not play backwards")
    least, now, greatest = slider.evaluate(RANGE)
    assert now < greatest
    halt(widget, SAVED)


def by_touch(page, widget, slider):
    """Tap on the far half of the track, then draw the handle to the middle with a finger."""
    slider.evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")  # clear of the page's head
    least, now, greatest = slider.evaluate(RANGE)
    box = slider.bounding_box()
    y, goal = box["y"] + box["height"] / 2, 0.2 if now > (least + greatest) / 2 else 0.8
    changes(widget, SAVED, lambda: page.touchscreen.tap(box["x"] + goal * box["width"], y),
            "its slider does not follow a tap")
    finger = page.context.new_cdp_session(page)

    def touch(kind, share):
        points = [] if share is None else [{"x": box["x"] + share * box["width"], "y": y}]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    def drag():
        touch("Start", goal)
        for step in range(1, 6):
            touch("Move", goal + (0.5 - goal) * step / 5)
        touch("End", None)

    changes(widget, SAVED, drag, "its slider does not follow a finger")
    least, now, greatest = slider.evaluate(RANGE)
    assert abs((now - least) / (greatest - least) - 0.5) < 0.2


@browser_test
def test_search_finds_a_word(visit):
    page = visit("index.html")
    page.get_by_role("textbox", name="Search").first.fill("Tweedie")
    page.keyboard.press("Enter")
    expect(page.locator("ul.search a[href^='02_score.html']").first).to_be_visible()


@browser_test
@pytest.mark.parametrize("name, drawer", [("Chapters", ".sidebar-drawer"),
                                          ("On this page", ".toc-drawer")])
def test_a_drawer_opens_by_key(visit, name, drawer):
    """On a phone; closed, it holds nothing that Tab could reach."""
    page = visit("01_noise.html", "phone")
    expect(page.locator(drawer)).to_be_hidden()
    page.get_by_role("button", name=name).filter(visible=True).first.press("Enter")
    expect(page.locator(drawer)).to_be_visible()


@browser_test
def test_a_solution_is_hidden_until_asked_for(visit):
    page = visit("01_noise.html")
    solution = page.locator("details.solution").first
    inside = solution.locator("div.cell").first
    expect(inside).to_be_hidden()
    solution.locator("summary").click()
    expect(inside).to_be_visible()


@browser_test
def test_a_chapter_prints_without_its_surroundings(visit):
    """And not as a single page that runs off the paper."""
    page = visit("05_continuous.html")
    page.emulate_media(media="print")
    for part in (".sidebar-drawer", ".toc-drawer", ".related-pages", "figure.minidiff .bar"):
        expect(page.locator(part).first).to_be_hidden()
    expect(page.locator("figure.minidiff canvas").first).to_be_visible()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", pdf)) > 10
