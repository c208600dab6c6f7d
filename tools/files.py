"""Files that are whole at any moment: whoever cuts the writing off leaves the old one."""

import os


def write_whole(path, text):
    """Put the text in the place of the file, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
