"""Files are whole at any moment."""

from pathlib import Path

import pytest

from files import write_whole


def test_a_file_is_written_in_a_new_folder_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.csv"
    for text in ("old\n", "α\nnew\n"):
        write_whole(path, text)
        assert path.read_bytes() == text.encode() and list(path.parent.iterdir()) == [path]


def test_who_cuts_the_writing_off_leaves_the_old_one(tmp_path, monkeypatch):
    path, honest = tmp_path / "a.csv", Path.write_text
    write_whole(path, "old")

    def cut_off(self, text, **options):
        honest(self, text[:2], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new and longer")
    assert path.read_text() == "old"
