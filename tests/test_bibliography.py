"""The bibliography: what a line of a list says, and which work a mention in the text means."""

import re

import pytest
from conftest import BOOK, CHAPTERS

from bibliography import MENTION, YEAR, Work, bibliography, bibtex, cite, page, works
from normal_form import read

HO = ("- J. Ho, A. Jain and P. Abbeel, [Denoising diffusion probabilistic models]"
      "(https://arxiv.org/abs/2006.11239), NeurIPS 2020.")
SDE = ("- Y. Song et al., [Score-based generative modeling](https://arxiv.org/abs/2011.13456), "
       "ICLR 2021 (in the text 2021b).")
DDIM = ("- J. Song, C. Meng and S. Ermon, [Denoising diffusion implicit models]"
        "(https://arxiv.org/abs/2010.02502), ICLR 2021 (in the text 2021a).")
ENERGY = ("- G. J. Székely and M. L. Rizzo, [Energy statistics & 100 % of_it](https://doi.org/10."
          "1016/0304(82)9_5), Annals 52(4), 2013. Its $D$; see *there*. (Twice.)")
FELLER = "- W. Feller, *On #1, $n$ and #2*, Springer 1949."
PAGE = "- PyTorch, [My workers](https://docs.pytorch.org/faq.html#my), documentation. The seed."
LISTED = [HO, SDE, DDIM, ENERGY, FELLER, PAGE,
          "- S. Dieleman, [Autoregression](https://sander.ai/a.html), 2024.",
          "- R. van den Berg, [What? A test](https://arxiv.org/abs/1504.12345), JMLR 6, 2015."]


def cell(*lines):
    return "\n".join(("## References", "", "The network", *lines))


@pytest.fixture(scope="module")
def lists():
    """The References cell of each chapter."""
    return {c.file: next(cell.source for cell in read(CHAPTERS / c.file).cells
                         if cell.id == "references") for c in BOOK.chapters}


def one(line):
    return works(cell(line))[0]


def test_a_line_is_read_and_printed_as_it_was():
    for line, work in zip(LISTED, works(cell(*LISTED)), strict=True):
        assert f"- {work} {work.note}".rstrip() == line
    assert one(ENERGY) == Work(
        "G. J. Székely and M. L. Rizzo", "Energy statistics & 100 % of_it", "Annals 52(4)", "2013",
        "https://doi.org/10.1016/0304(82)9_5", "Its $D$; see *there*. (Twice.)")
    assert (one(SDE).year, one(SDE).venue, one(FELLER).url) == ("2021b", "ICLR", "")
    assert (one(PAGE).venue, one(PAGE).year, one(PAGE).note) == ("documentation", "", "The seed.")


def test_key_and_numbers():
    assert [work.key for work in works(cell(*LISTED))] == [
        "ho-2020", "song-2021b", "song-2021a", "szekely-2013", "feller-1949",
        "pytorch-my-workers", "dieleman-2024", "van-den-berg-2015"]
    assert (one(HO).arxiv, one(HO).doi) == ("2006.11239", None)
    assert (one(ENERGY).arxiv, one(ENERGY).doi) == (None, "10.1016/0304(82)9_5")
    assert (one(FELLER).arxiv, one(FELLER).doi, one(PAGE).doi) == (None, None, None)


@pytest.mark.parametrize("old, new", [
    ("- J.", "* J."), ("- J.", "J."), ("- J.", "  - J."), ("Jain and", "Jain,"),
    ("Jain and", "Jain, and"), ("Jain and P. Abbeel", "Jain et al."),
    ("J. Ho, A. Jain and P. Abbeel, ", ""),
    ("Abbeel,", "Abbeel et al.,"), ("[Denoising", "Denoising"), ("[Denoising", "*Denoising"),
    ("https", "http"), ("11239), ", "11239) "), ("11239), ", "11239) (in German), "),
    ("NeurIPS 2020", "NeurIPS, 2020"), ("NeurIPS 2020", "Annals 3 2020"), ("2020.", "2020"),
    ("NeurIPS 2020", "NeurIPS"), ("2020.", "20201."), ("2020.", "2020b."),
    ("2020.", "2020 (in the text 2021b)."), ("2020.", "2020. A note"), ("2020.", "2020; a note."),
    ("2020.", "2020; X. Y, [Title](https://arxiv.org/abs/2006.11240), 2021."),
])
def test_a_line_in_another_form_is_refused(old, new):
    bad = HO.replace(old, new, 1)
    assert bad != HO
    with pytest.raises(ValueError, match="a reference must be") as error:
        works(cell(ENERGY, bad))
    assert bad[:40] in str(error.value)


def test_lists_are_merged():
    entries = bibliography({"1": cell(SDE, HO + " Eq. 4."), "2": cell(HO), "3": cell(DDIM, HO)})
    assert [(work.key, notes) for work, notes in entries] == [
        ("ho-2020", {"1": "Eq. 4.", "2": "", "3": ""}), ("song-2021a", {"3": ""}),
        ("song-2021b", {"1": ""})]
    assert all(work.note == "" for work, _ in entries)


@pytest.mark.parametrize("other", [
    HO.replace("A. Jain", "B. Jain"), HO.replace("Denoising", "De-noising"),
    HO.replace("NeurIPS", "ICML"), HO.replace("2020", "2021"), HO.replace("11239", "11230"),
    re.sub(r"\[(.*)\]\(.*\),", r"*\1*,", HO),
    HO.replace("Denoising", "De-noising").replace("2020", "2021"),  # only the address is shared
    HO.replace("11239", "11230").replace("2020", "2021"),           # only the title
    "- E. Ho, [Another](https://arxiv.org/abs/2001.00001), ICML 2020.",
])
def test_two_chapters_that_disagree_are_refused(other):
    with pytest.raises(ValueError, match="^2: a reference must be as elsewhere, 'J. Ho, A. Jain"):
        bibliography({"1": cell(SDE, HO), "2": cell(DDIM, other)})


def test_a_work_stands_once_in_a_list():
    with pytest.raises(ValueError, match="1: a reference must be listed once"):
        bibliography({"1": cell(HO, SDE, HO)})


@pytest.mark.parametrize("name, year, key", [
    ("Ho et al.", "2020", "ho-2020"), ("Ho, Jain et al.", "2020", "ho-2020"),
    ("Ho, Jain and Abbeel", "2020", "ho-2020"), ("Ho et\nal.", "2020", "ho-2020"),
    ("Song et al.", "2021b", "song-2021b"), ("Song et al.", "2021a", "song-2021a"),
    ("Song, Meng and Ermon", "2021", "song-2021a"), ("Székely and Rizzo", "2013", "szekely-2013"),
    ("Feller", "1949", "feller-1949"), ("van den Berg", "2015", "van-den-berg-2015"),
    ("Song et al.", "2021", None), ("Song et al.", "2021c", None), ("Ho et al.", "2021", None),
    ("Ho", "2020", None), ("Ho and Jain", "2020", None), ("Ho, Abbeel et al.", "2020", None),
    ("Song", "2021b", None), ("Székely et al.", "2013", "szekely-2013"),
    ("Feller et al.", "1949", None), ("Szekely and Rizzo", "2013", None),
    ("Jain et al.", "2020", None),
])
def test_cite(name, year, key):
    if key:
        assert cite(name, year, works(cell(*LISTED))).key == key
    else:
        with pytest.raises(ValueError, match="a mention must be of one work") as error:
            cite(name, year, works(cell(*LISTED)))
        assert repr(name)[1:-1] in str(error.value) and year in str(error.value)


@pytest.mark.parametrize("text, found", [
    ("So (Karras et al., 2022).", [("Karras et al., 2022", "Karras et al.", "2022")]),
    ("When Ho et al. (2020) tell", [("Ho et al. (2020)", "Ho et al.", "2020")]),
    ("beside Ho et al.'s (2020) run", [("Ho et al.'s (2020)", "Ho et al.", "2020")]),
    ("is Hutchinson’s, 1989).", [("Hutchinson’s, 1989", "Hutchinson", "1989")]),
    ("(Guo, Shamai and Verdú, 2005).", [
        ("Guo, Shamai and Verdú, 2005", "Guo, Shamai and Verdú", "2005")]),
    ("(Chen et al., 2018; Song and Ermon, 2019b)", [
        ("Chen et al., 2018", "Chen et al.", "2018"),
        ("Song and Ermon, 2019b", "Song and Ermon", "2019b")]),
    ("(Song, Garg et al., 2019; the", [("Song, Garg et al., 2019", "Song, Garg et al.", "2019")]),
    ("Székely and\nRizzo, 2013", [("Székely and\nRizzo, 2013", "Székely and\nRizzo", "2013")]),
    ("(Albergo and Vanden-Eijnden, 2023)", [
        ("Albergo and Vanden-Eijnden, 2023", "Albergo and Vanden-Eijnden", "2023")]),
    ("| Song et al. (2021b, eq. 12), VP |", [
        ("Song et al. (2021b, eq. 12)", "Song et al.", "2021b")]),
    ("(Kingma et al., 2021, section 5.1). It", [
        ("Kingma et al., 2021, section 5.1", "Kingma et al.", "2021")]),
    ("Karras et al. (2022, sections 4 and 5.2)", [
        ("Karras et al. (2022, sections 4 and 5.2)", "Karras et al.", "2022")]),
    ("(Ho et al., 2020, appendix B.3, and)", [
        ("Ho et al., 2020, appendix B.3", "Ho et al.", "2020")]),
    ("(Ho et al., 2020 and others)", [("Ho et al., 2020", "Ho et al.", "2020")]),
    ("(Ho et al., 2020, saw it)", [("Ho et al., 2020", "Ho et al.", "2020")]),
    ("Ho et al. (2020, who saw it)", [("Ho et al. (2020", "Ho et al.", "2020")]),
    ("of van den Berg, 2021.", [("van den Berg, 2021", "van den Berg", "2021")]),
    ("Bradley and Nakkiran (2024) and Lin et al. (2024)", [
        ("Bradley and Nakkiran (2024)", "Bradley and Nakkiran", "2024"),
        ("Lin et al. (2024)", "Lin et al.", "2024")]),
    ("so did O'Brien (1999)", [("O'Brien (1999)", "O'Brien", "1999")]),
])
def test_mentions(text, found):
    assert [(m[0], m["name"], m["year"]) for m in MENTION.finditer(text)] == found


@pytest.mark.parametrize("text", [
    "In 2020 it was new.", "CIFAR-10, 2009", "Einstein in water in 1905.", "Fourier, in 1822,",
    "by Heun in 1900:", "Adam (1000 steps)", "With Adam, 2000 steps will do.", "the chain, 2015",
    "Ho et al.'s thousand rows", "Adam (2000 steps)", "Table 3, 2020", "Ho et al., 20201",
    "ICLR 2021 (Song)", "(2020, 2021)", "in the year (2020)", "x, 2020; A, 2020", "Ho et al. 1000",
])
def test_ordinary_sentences_are_no_mentions(text):
    assert not MENTION.search(text)


def entries_of_bibtex(text):
    """[(kind, key, fields)], by counting braces; a second opinion on what `bibtex` writes."""
    found, depth, start = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "{") * (text[at - 1] != "\\") - (sign == "}") * (text[at - 1] != "\\")
        assert depth >= 0
        if sign == "@" and depth == 0:
            start = at
        if sign == "}" and depth == 0:
            head, *lines = text[start:at].strip().split(",\n")
            kind, _, key = head.partition("{")
            fields = [line.strip().partition(" = ") for line in lines]
            assert all(value[0] == "{" and value[-1] == "}" for *_, value in fields)
            found.append((kind, key, {name: value[1:-1] for name, _, value in fields}))
    assert depth == 0 and text.count("@") == len(found)
    return found


def test_bibtex():
    listed = bibliography({"1": cell(*LISTED)})
    found = entries_of_bibtex(bibtex(listed))
    assert [key for _, key, _ in found] == [work.key for work, _ in listed]
    by_key = {key: (kind, fields) for kind, key, fields in found}
    assert by_key["ho-2020"] == ("@misc", {
        "author": "J. Ho and A. Jain and P. Abbeel", "year": "2020",
        "title": "{Denoising diffusion probabilistic models}", "howpublished": "NeurIPS",
        "eprint": "2006.11239", "archiveprefix": "arXiv", "url": one(HO).url})
    assert by_key["szekely-2013"] == ("@article", {
        "author": "G. J. Székely and M. L. Rizzo", "journal": "Annals", "volume": "52",
        "title": r"{Energy statistics \& 100 \% of\_it}", "number": "4", "year": "2013",
        "doi": "10.1016/0304(82)9_5", "url": one(ENERGY).url})
    assert by_key["feller-1949"][1]["title"] == r"{On \#1, $n$ and \#2}"
    assert by_key["song-2021b"][1]["author"] == "Y. Song and others"
    assert by_key["song-2021b"][1]["year"] == "2021"
    assert by_key["pytorch-my-workers"] == ("@misc", {
        "author": "{PyTorch}", "title": "{My workers}", "howpublished": "documentation",
        "url": one(PAGE).url})


def test_page():
    first, second = BOOK.chapters[0].file, BOOK.chapters[1].file
    listed = {first: cell(HO + " Its $L$; *eq.* 4."), second: cell(HO, ENERGY)}
    text = page(bibliography(listed), BOOK)
    assert text.startswith("# References\n\n") and '<a href="references.bib" download>' in text
    one_, two = (f'In <a href="{file[:-6]}.html#references">chapter {n}</a>'
                 for n, file in ((1, first), (2, second)))
    assert text.endswith(f"""
- (ho-2020)=
  {HO[2:]} [arXiv:2006.11239](https://arxiv.org/abs/2006.11239). {two}.
  - {one_}: Its $L$; *eq.* 4.

- (szekely-2013)=
  {one(ENERGY)} [doi:10.1016/0304(82)9_5](https://doi.org/10.1016/0304(82)9_5).
  - {two}: {one(ENERGY).note}
""")


def test_the_chapters_lists_agree(lists):
    listed = bibliography(lists)
    assert len(listed) >= 80
    assert len({work.key for work, _ in listed}) == len(listed)
    for work, _ in listed:
        assert work.authors.count(",") <= 4, "six authors at most; above that, the first et al."
        assert work.year or work.url or work.authors == "NVIDIA"
    found = entries_of_bibtex(bibtex(listed))
    assert [key for _, key, _ in found] == [work.key for work, _ in listed]
    assert page(listed, BOOK).count("\n- (") == len(listed)


def prose(source):
    """A Markdown cell without its code, mathematics and addresses."""
    source = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "` `", source, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", source)


@pytest.mark.parametrize("chapter", [c.file for c in BOOK.chapters])
def test_every_mention_is_of_a_work_in_the_chapters_list(chapter, lists):
    known, texts = works(lists[chapter]), []
    for path in (CHAPTERS / chapter, CHAPTERS / "solutions" / chapter):
        texts += [prose(c.source) for c in read(path).cells
                  if c.cell_type == "markdown" and c.id != "references"] if path.exists() else []
    for text in texts:
        for mention in MENTION.finditer(text):
            year = cite(mention["name"], mention["year"], known).year
            assert year == mention["year"], f"{mention[0]}: its letter"
        rest = MENTION.sub(".", text)
        assert not re.search(rf"et al\.[^.;|]{{0,20}}\b{YEAR}", rest), "in no known form"
    assert any(map(MENTION.search, texts))
