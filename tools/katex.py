"""Mathematics in the HTML book: TeX in the page, which web/katex (KaTeX 0.19.1) draws there."""

from docutils.nodes import SkipNode


def setup(app):
    """The Sphinx extension."""
    app.add_html_math_renderer("katex", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer, node):
    """TeX in a `<span class="math">`."""
    _write(writer, node, "span")


def display(writer, node):
    """TeX in a `<div class="math">`; the box that Furo puts around it has the equation's anchor."""
    _write(writer, node, "div")


def _write(writer, node, tag):
    writer.body.append(f'<{tag} class="math notranslate nohighlight">'
                       f"{writer.encode(node.astext())}</{tag}>")
    raise SkipNode
