"""Build the HTML book: one folder that works from a web server, from a disk, and offline.

usage: python tools/webbook.py [folder]     (default: site, beside book.py)

Chapters are shown with the outputs that are stored in them; nothing is run. The folder is made
anew, and takes the place of an earlier one when it is complete. Any warning is an error.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import docutils_namespace, patch_docutils

import webpages
from minidiff.book import load

ROOT = Path(__file__).resolve().parent.parent
WEB = Path(__file__).resolve().parent / "web"
CLONED = re.compile(r'\[remote "origin"\][^\[]*?\burl = \S*?\bgithub\.com[:/]'
                    r"([\w.-]+/[\w.-]+?)(?:\.git)?/?\s")
MADE = ".minidiff-site"  # marks a folder as made here
BRAND = ("color-brand-primary", "color-brand-content")


def build(folder, root=ROOT):
    """Build the book in `root` into the folder.

    Raises `ValueError` if the folder holds other things, `SphinxError` at any warning.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MADE).exists():
        raise ValueError(f"folder must be new, empty, or an earlier site, got {str(folder)!r}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".site-") as scratch:
        source, target, cache = (Path(scratch) / name for name in ("source", "site", "cache"))
        book = load(root / "book.toml")
        crossrefs = webpages.write(source, book, root, repository(root))
        with patch_docutils(), docutils_namespace():
            sphinx = Sphinx(source, None, target, cache, "html", settings(book, crossrefs),
                            status=None, warning=sys.stderr, exception_on_warning=False,
                            warningiserror=True)
            sphinx.build()
        if sphinx.statuscode:
            raise SphinxError("the book has warnings")
        (target / MADE).touch()
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(target, folder)


def settings(book, crossrefs):
    """Sphinx's configuration, which the manifest decides."""
    return {
        "project": book.title, "author": ", ".join(book.authors), "language": book.language,
        "copyright": f"{', '.join(book.authors)}; text and figures CC BY 4.0, code MIT",
        "extensions": ["myst_nb", "crossrefs", "katex"], "crossrefs": crossrefs,
        "html_theme": "furo", "html_title": book.title, "html_math_renderer": "katex",
        "html_static_path": [str(WEB)],
        "html_extra_path": [webpages.EXTRA], "exclude_patterns": [webpages.EXTRA],
        "html_theme_options": {
            "light_css_variables": dict.fromkeys(BRAND, "#00639c"),
            "dark_css_variables": dict.fromkeys(BRAND, "#7cc4f0")},
        "html_css_files": ["katex/katex.min.css", "book.css"],
        "html_js_files": ["katex/katex.min.js", "book.js"],
        "smartquotes": False, "html_copy_source": False, "html_show_sphinx": False,
        "html_show_search_summary": False,  # a page that was opened from a disk can't fetch others
        "nb_execution_mode": "off", "nb_merge_streams": True,
        "nb_mime_priority_overrides": [("html", "text/html", 0)],
        "myst_enable_extensions": ["dollarmath", "colon_fence", "attrs_block", "attrs_inline"],
        "myst_dmath_double_inline": True, "myst_heading_anchors": 0,
    }


def repository(root):
    """"owner/name" at GitHub, if that is where this copy of the book was cloned from, or None."""
    config = root / ".git" / "config"
    found = CLONED.search(config.read_text("utf-8")) if config.is_file() else None
    return found and found[1]


def main(arguments, root=ROOT):
    """Build the book; 0 if it is there now."""
    parser = argparse.ArgumentParser("book.py html", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", default="site", type=lambda name: root / name,
                        help="where to; a site that is there already is built anew")
    folder, start = parser.parse_args(arguments).folder.resolve(), time.perf_counter()
    try:
        build(folder, root)
    except (ValueError, OSError, SphinxError) as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder / 'index.html'}: {size / 1e6:.0f} MB in {time.perf_counter() - start:.0f} s. "
          f"Open it in a browser, or put the folder on any web server.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
