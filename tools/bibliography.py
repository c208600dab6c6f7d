"""The book's bibliography: the chapters' lists of references, read, merged, cited and printed.

A list has one work a line, where the title may stand without an address:

    - AUTHORS, [TITLE](URL), VENUE YEAR. What the chapter takes from it.
    - AUTHORS, *TITLE*, VENUE YEAR (in the text YEARb).

A comma stands before the year where the venue ends with a volume. A page of the web has
"documentation", or another word in small letters, for venue and year.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

from minidiff.errors import require

YEAR = r"(?:1[89]|20)\d\d"
AUTHOR = r"(?:(?!\sand\s|\set\sal)[^,;\[\]*])+"
AUTHORS = rf"{AUTHOR}(?:(?:,[ ]{AUTHOR})*[ ]and[ ]{AUTHOR}|[ ]et[ ]al\.)?"
WORK = re.compile(rf"""- [ ] (?P<authors>{AUTHORS})
    ,[ ] (?: \[(?P<linked>[^\[\]]+)\] \((?P<url>https://(?:[^()\s]|\([^()\s]*\))+)\)
           | \*(?P<plain>[^*\[\]]+)\*)
    ,[ ] (?: (?P<kind>[a-z ]+)
           | (?:(?P<venue>[^.]+?)(?:(?<=[\d)]),|(?<![\d),]))[ ])?
             (?P<year>{YEAR})(?:[ ]\(in[ ]the[ ]text[ ](?P<lettered>(?P=year)[a-z])\))?)
    \.(?:[ ](?P<note>\S.*[.?!]\)?))?""", re.VERBOSE)
GROUP = re.compile(r"[A-Z][a-z, ]+")  # a line above works that belong together
TEX = str.maketrans({c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
FORM = "- AUTHORS, [TITLE](URL), VENUE YEAR. Note."

LETTER, CAPITAL = r"[^\W\d_]", r"[^\W\d_a-zß-ÿ]"
INITIALS = re.compile(rf"(?:{LETTER}\.[ -]?)+")  # "J.-Y. "
SURNAME = (rf"(?:(?:van|von|de|den|der|la|le|di|du)\s)*(?:{CAPITAL}['’])?"
           rf"{CAPITAL}{LETTER}+(?:-{LETTER}+)*")
PLACE = r"[A-Z]?\d*(?:\.\d+)*"
MENTION = re.compile(rf"""(?<![\w'’-])
    (?P<name>{SURNAME}(?:(?:,\s{SURNAME})*\sand\s{SURNAME}|(?:,\s{SURNAME})?\set\sal\.)?)
    (?:['’]s)? (?:,\s|(?P<open>\s\()) (?P<year>{YEAR}[a-z]?)\b (?!\s+(?!and\b|or\b)\w)
    (?:,\s(?:eqs?\.|(?:algorithm|appendix|figure|section|table|theorem)s?)\s
       (?=[A-Z\d]){PLACE}(?:(?:,|\sand|\sto)\s(?=\d){PLACE})*)?  # its own section, not the book's
    (?(open)(?:\)|(?=[,;])))""", re.VERBOSE)


@dataclass(frozen=True)
class Work:
    """A work as a list of references has it."""

    authors: str
    title: str
    venue: str  # or what it is, where it has no year
    year: str   # with its letter, if it needs one; or ""
    url: str    # or ""
    note: str   # what a chapter takes from it; or ""

    @property
    def key(self):
        """Its anchor: "ho-2020", "song-2021b"; by its title where it has no year."""
        return slug(f"{surnames(self.authors)[0]} {self.year or self.title}")

    @property
    def arxiv(self):
        """Its number at arXiv, or None."""
        found = re.fullmatch(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5})", self.url)
        return found and found[1]

    @property
    def doi(self):
        """Its DOI, or None."""
        found = re.fullmatch(r"https://doi\.org/(10\..+)", self.url)
        return found and found[1]

    def __str__(self):
        """The work as it stands in a list, in Markdown, without the note."""
        title = f"[{self.title}]({self.url})" if self.url else f"*{self.title}*"
        comma = "," if re.search(r"[\d)]$", self.venue) else ""
        letter = f"(in the text {self.year})" if self.year[4:] else ""
        where = " ".join(filter(None, [self.venue + comma, self.year[:4], letter]))
        return f"{self.authors}, {title}, {where}."


def works(text):
    """The works of a References cell. Raises `ValueError` that names the line in no known form."""
    return [_work(line) for line in text.split("\n")
            if line not in ("", "## References") and not GROUP.fullmatch(line)]


def _work(line):
    found = WORK.fullmatch(line)
    require(found, "a reference", f"{FORM!r}, or as tools/bibliography.py says", line)
    return Work(found["authors"], found["linked"] or found["plain"],
                found["kind"] or found["venue"] or "", found["lettered"] or found["year"] or "",
                found["url"] or "", found["note"] or "")


def bibliography(cells):
    """[(work without note, {chapter: note})] in alphabetical order, of {chapter: References cell}.

    Works of one key, title or address are one. Raises `ValueError` where two lists, or two lines
    of a list, don't say the same of it.
    """
    entries = {}
    for chapter, text in cells.items():
        for listed in works(text):
            work = replace(listed, note="")
            same = next((w for w in entries if _share(w, work)), work)
            if same != work:
                raise ValueError(f"{chapter}: a reference must be as elsewhere, '{same}', or have "
                                 f"a letter of its own at the year; got '{work}'")
            notes = entries.setdefault(work, {})
            require(chapter not in notes, f"{chapter}: a reference", "listed once", str(work))
            notes[chapter] = listed.note
    return sorted(entries.items(), key=lambda entry: entry[0].key)


def _share(a, b):
    return (a.key == b.key or slug(a.title) == slug(b.title)
            or a.url.lower() == b.url.lower() != "")


def cite(name, year, works):
    """The one work among these that "Ho et al.", "2020" or "Song and Ermon", "2019" means.

    Without "et al." all authors must be named; a letter counts if it is given. Raises `ValueError`
    if there is no such work, or several.
    """
    found = [w for w in works if year in (w.year, w.year[:4]) and _names(name, w)]
    require(len(found) == 1, "a mention", "of one work in the chapter's references",
            f"{name}, {year}: {[work.key for work in found] or 'none'}")
    return found[0]


def _names(name, work):
    said, known = surnames(name), surnames(work.authors)
    if not name.endswith("al."):
        return said == known and not work.authors.endswith("et al.")
    more = len(known) > len(said) or work.authors.endswith("et al.")
    return said == known[:len(said)] and more


def surnames(authors):
    """["Ho", "Jain", "Abbeel"] of "J. Ho, A. Jain and P. Abbeel", with or without initials."""
    names = re.split(", | and ", " ".join(authors.split()).removesuffix(" et al."))
    return [INITIALS.sub("", name) for name in names]


def slug(text):
    """The text in small letters without accents, a hyphen in the place of all else."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def page(entries, book):
    """The page "References" in MyST Markdown; `entries` are a `bibliography`'s."""
    chapters = {chapter.file: chapter for chapter in book.chapters}
    items = "\n".join(_item(work, notes, chapters) for work, notes in entries)
    return ("# References\n\nThe works that the chapters list, and what each chapter takes from "
            'them. Also as <a href="references.bib" download>BibTeX</a>.\n\n' + items)


def _item(work, notes, chapters):
    number = (f" [arXiv:{work.arxiv}]({work.url})." if work.arxiv else
              f" [doi:{work.doi}]({work.url})." if work.doi else "")
    links = {file: f'<a href="{chapters[file].stem}.html#references">'
                   f"chapter {chapters[file].number}</a>" for file in notes}
    listed = ", ".join(links[file] for file, note in notes.items() if not note)
    lines = [f"- ({work.key})=", f"  {work}{number}{listed and f' In {listed}.'}"]
    lines += [f"  - In {links[file]}: {note}" for file, note in notes.items() if note]
    return "\n".join(lines) + "\n"


def bibtex(entries):
    """The text of references.bib."""
    return "\n\n".join(_record(work) for work, _ in entries) + "\n"


def _record(work):
    volume = re.fullmatch(r"(.+) (\d+)(?:\((\d+)\))?", work.venue)
    journal, number, issue = volume.groups() if volume else (None, None, None)
    values = {"author": " and ".join(_authors(work)), "title": f"{{{escape(work.title)}}}",
              "journal": journal and escape(journal), "volume": number, "number": issue,
              "howpublished": None if volume else escape(work.venue), "year": work.year[:4],
              "eprint": work.arxiv, "archiveprefix": work.arxiv and "arXiv", "doi": work.doi,
              "url": work.url}
    lines = [f"  {name} = {{{value}}}" for name, value in values.items() if value]
    return f"@{'article' if volume else 'misc'}{{{work.key},\n" + ",\n".join(lines) + "\n}"


def _authors(work):
    """The authors as BibTeX wants them: an institution in braces, "others" for "et al."."""
    names = re.split(r", | and ", work.authors.removesuffix(" et al."))
    people = [escape(n) if INITIALS.match(n) else f"{{{escape(n)}}}" for n in names]
    return people + ["others"] * work.authors.endswith(" et al.")


def escape(text):
    """Markdown as TeX: its special characters escaped, mathematics and accents left alone."""
    parts = re.split(r"(\$[^$]+\$)", text)
    return "".join(part if n % 2 else part.translate(TEX) for n, part in enumerate(parts))
