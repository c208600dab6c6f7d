"""CIFAR-10's loader: every way that a download, an archive or a file can go wrong, on a web server
here, with files of the true format and few records. Nothing is left to chance: no false alarms.
"""

import hashlib
import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

# by its full name, since `minidiff.data.cifar10` is the function
cifar10 = importlib.import_module("minidiff.data.cifar10")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "cifar10"
SMALL = 20  # records of a file here
NAMES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def raw(name, n=SMALL):
    """The bytes of a file of n records, the same each time; noise, so an archive stays long."""
    rng = np.random.default_rng(NAMES.index(name))
    table = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
    table[:, 0] = rng.integers(0, 10, n)
    return table.tobytes()


def tar_gz(members):
    """A tar.gz of `(name, bytes)`, or `(TarInfo, None)` for a header alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in members:
            if data is None:
                tar.addfile(name)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def members():
    """The official archive's members, in an order of their own and with others between."""
    pick = [NAMES[i] for i in (0, 2, 5, 3, 4, 1)]
    return [("cifar-10-batches-bin/readme.html", b"<html>"),
            *((f"cifar-10-batches-bin/{name}", raw(name)) for name in pick)]


GENUINE = tar_gz(members())


def official(data):
    """The constants that make these bytes the official archive."""
    return {"SIZE": SMALL * 3073, "BYTES": len(data), "TIMEOUT": 10, "CHUNK": 7_000,
            "DIGESTS": {kind: hashlib.new(kind, data).hexdigest() for kind in ("md5", "sha256")}}


def adopt(monkeypatch, data):
    for name, value in official(data).items():
        monkeypatch.setattr(cifar10, name, value)


class Server(ThreadingHTTPServer):
    """One file under any path, with faults to choose; `asked` are the requests, (path, Range)."""

    body, cut, ranges, headers, hold = GENUINE, None, True, {}, None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked, self.url = [], f"http://127.0.0.1:{self.server_port}/a.tar.gz"


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        server.asked.append((self.path, asked))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", server.url)
            return self.end_headers()
        if self.path == "/none":
            return self.send_error(404)
        n, start = len(server.body), 0
        if server.ranges and asked:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        headers = {"Content-Length": n - start}
        if server.ranges and asked:
            headers["Content-Range"] = f"bytes {start}-{n - 1}/{n}"
        self.send_response(206 if server.ranges and asked else 200)
        for name, value in {**headers, **server.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        stop = n if server.cut is None else server.cut
        self.wfile.write(server.body[start:stop])
        if server.hold and stop < n:
            server.hold.wait(20)
            self.wfile.write(server.body[stop:])


@pytest.fixture
def server(monkeypatch):
    adopt(monkeypatch, GENUINE)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True).start()
        yield server
        if server.hold:
            server.hold.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    """The progress bars that were drawn, as `[total, initial, how far it came]`."""
    tqdm = pytest.importorskip("tqdm.auto", reason="the lab extra is not installed")
    drawn = []

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**options, file=io.StringIO())
            drawn.append([self.total, self.initial, self.n])

        def update(self, n=1):
            super().update(n)
            drawn[-1][2] = self.n

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    return drawn


def fits(images, labels, split="train"):
    """What the loader gave is what the files hold, byte for byte."""
    data = b"".join(raw(name) for name in (NAMES[:5] if split == "train" else NAMES[5:]))
    assert images.dtype == labels.dtype == np.uint8 and images.shape[1:] == (3, 32, 32)
    together = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    assert together.tobytes() == data
    assert images.flags.writeable and images.flags.c_contiguous and labels.flags.writeable


def left(home):
    """What is in the cache, the lock apart, which is to stay."""
    return {path.name for path in home.iterdir()} - {"cifar-10-batches-bin.lock"}


DONE = {"cifar-10-binary.tar.gz", "cifar-10-batches-bin"}
PART = {"cifar-10-binary.tar.gz.part"}


# The format.

def test_a_record_by_hand():
    """The label, then red, green and blue, each row by row."""
    record = bytearray(3073)
    record[0], record[1 + 1024 * 1 + 32 * 5 + 7], record[1 + 1024 * 2 + 31] = 9, 200, 100
    images, labels = cifar10.records(bytes(record) + bytes(3073))
    assert labels.tolist() == [9, 0] and images.shape == (2, 3, 32, 32)
    assert np.argwhere(images).tolist() == [[0, 1, 5, 7], [0, 2, 0, 31]]
    assert (images[0, 1, 5, 7], images[0, 2, 0, 31]) == (200, 100)
    assert (cifar10.NAMES[9], cifar10.NAMES[0], cifar10.NAMES[3]) == ("truck", "airplane", "cat")


@pytest.mark.parametrize("data, words", [
    (bytes(3072), "data must be whole records of 3073 bytes; got 3072"),
    (bytes(3073) + b"\x0a" + bytes(3072), r"data must be of labels 0..9; got .*in records \[1\]"),
])
def test_no_records(data, words):
    with pytest.raises(ValueError, match=words):
        cifar10.records(data)


def test_the_constants_are_the_official_ones():
    assert cifar10.SIZE == 10_000 * 3073 and cifar10.BYTES == 170_052_171
    assert cifar10.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert cifar10.DIGESTS["md5"] == "c32a1d4ab5d03f1284b67883e8d87530"
    assert len(cifar10.DIGESTS["sha256"]) == 64
    assert [*cifar10.FILES["train"], *cifar10.FILES["test"]] == NAMES


@pytest.mark.skipif(not SHARED.exists(), reason="needs genuine records, which are not in the book")
def test_genuine_heads():
    """1,017 records a file are too few for a file, but they are records: labels as in a JPEG copy
    of all, and the first 20 images of each as near to theirs as JPEG comes, 5.8 grey levels on the
    mean. To a column to the left it would be 16, red for blue 22, rows for columns 49.
    """
    from PIL import Image

    heads = SHARED / "official_head"
    for split, name in (("train", "data_batch_1.bin"), ("test", "test_batch.bin")):
        with pytest.raises(ValueError, match=f"file {heads / name} must be 30,730,000 bytes long; "
                                             "got '3,125,241'"):
            cifar10.cifar10(split, heads)
    errors = []
    for split, files in cifar10.FILES.items():
        with np.load(SHARED / f"{split}_jpeg.npz") as copy:
            jpeg, offsets, theirs = copy["jpeg"], copy["offsets"], copy["labels"]
        for i, name in enumerate(files):
            images, labels = cifar10.records((heads / name).read_bytes(), name)
            start = 10_000 * i
            assert np.array_equal(labels, theirs[start:start + 1017])
            for k, image in enumerate(images[:20], start):
                with Image.open(io.BytesIO(jpeg[offsets[k]:offsets[k + 1]])) as file:
                    errors.append(np.abs(np.asarray(file).transpose(2, 0, 1) - image.astype(int)))
    assert np.mean(errors) < 7


# Folders.

@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the six files."""
    adopt(monkeypatch, GENUINE)
    home = tmp_path / "bin"
    home.mkdir()
    for name in NAMES:
        (home / name).write_bytes(raw(name))
    return home


def test_a_folder_is_read_where_it_is(folder, tmp_path):
    for source in (folder, str(folder)):
        fits(*cifar10.cifar10("test", source, tmp_path / "cache"), "test")
    fits(*cifar10.cifar10(source=folder))
    fits(*cifar10.read(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize("change, words", [
    (lambda data: data[:-1], "file .*data_batch_4.bin must be 61,460 bytes long; got '61,459'"),
    (lambda data: data[:-3073], "file .*data_batch_4.bin must be 61,460 bytes long; got '58,387'"),
    (lambda data: data + b"\0", "file .*data_batch_4.bin must be 61,460 bytes long; got '61,461'"),
    (lambda data: data[:6146] + b"\xff" + data[6147:],
     r"file .*data_batch_4.bin must be of labels 0..9; got 'others in records \[2\]'"),
    (lambda data: None, "folder .*bin must be one with the file data_batch_4.bin; got 'none'"),
])
def test_a_bad_file_is_named(folder, change, words):
    path = folder / "data_batch_4.bin"
    data = change(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    fits(*cifar10.read(folder, "test"), "test")
    with pytest.raises(ValueError, match=words):
        cifar10.read(folder, "train")


# Archives.

@pytest.fixture
def archive(tmp_path, monkeypatch):
    adopt(monkeypatch, GENUINE)
    path = tmp_path / "mine.tgz"
    path.write_bytes(GENUINE)
    return path


def test_an_archive_is_unpacked_once(archive, tmp_path):
    home = tmp_path / "a" / "cache"
    fits(*cifar10.cifar10("train", archive, home))
    data = home / "cifar-10-batches-bin"
    assert left(home) == {data.name} and {p.name for p in data.iterdir()} == {*NAMES, "SHA256SUMS"}
    assert (data / "SHA256SUMS").read_text().splitlines()[2] == (
        f"{hashlib.sha256(raw('test_batch.bin')).hexdigest()}  test_batch.bin")
    archive.write_bytes(b"")
    fits(*cifar10.cifar10("test", archive, home), "test")
    archive.unlink()
    with pytest.raises(ValueError, match="source must be a URL, or the path of an archive"):
        cifar10.cifar10("test", archive, home)


def test_what_is_there_is_read_without_a_lock(archive, tmp_path):
    """Perhaps from a disk that all may read and none may write."""
    cifar10.unpack(archive, tmp_path / "shared" / "cifar-10-batches-bin")
    fits(*cifar10.cifar10("train", archive, tmp_path / "shared"))
    assert os.listdir(tmp_path / "shared") == ["cifar-10-batches-bin"]


def test_what_changed_since_is_named(archive, tmp_path):
    """One bit of a pixel."""
    cifar10.unpack(archive, tmp_path / "data")
    path = tmp_path / "data" / "data_batch_2.bin"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    fits(*cifar10.read(tmp_path / "data", "test"), "test")
    with pytest.raises(ValueError, match="data_batch_2.bin must be as it was unpacked"):
        cifar10.read(tmp_path / "data", "train")


@pytest.mark.parametrize("change", [
    lambda data: data[:-1], lambda data: data[:len(data) // 2], lambda data: b"",
    lambda data: data + b"\0", lambda data: data[:99_999] + b"cut" + data[100_002:]])
def test_another_archive_is_refused(archive, tmp_path, change):
    archive.write_bytes(change(GENUINE))
    md5 = hashlib.md5(change(GENUINE)).hexdigest()
    with pytest.raises(ValueError) as caught:
        cifar10.cifar10("train", archive, tmp_path / "cache")
    assert str(caught.value) == (
        f"archive {archive} must be the archive of {len(GENUINE):,} bytes, md5 "
        f"{hashlib.md5(GENUINE).hexdigest()}; got '{len(change(GENUINE)):,} bytes, md5 {md5}'")
    assert left(tmp_path / "cache") == set() and archive.exists()


def test_an_archive_of_the_same_md5_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "DIGESTS", {**cifar10.DIGESTS, "sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"bytes, sha256 000\d*; got"):
        cifar10.unpack(archive, tmp_path / "data")


def header(name, kind, link="", size=0):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member, None


HEAD = "cifar-10-batches-bin/"


def test_nothing_but_the_six_files_is_written(archive, tmp_path, monkeypatch):
    """Even were an archive with such members the official one."""
    evil = tar_gz([
        ("../evil", b"x"), (f"{tmp_path}/evil", b"x"), (f"{HEAD}../../evil", b"x"),
        header(f"{HEAD}link", tarfile.SYMTYPE, ".."), (f"{HEAD}link/evil", b"x"),
        ("data_batch_1.bin", b"x"), (f"{HEAD}sub/data_batch_1.bin", b"x"),
        header(f"{HEAD}pipe", tarfile.FIFOTYPE), *members()])
    adopt(monkeypatch, evil)
    archive.write_bytes(evil)
    data = tmp_path / "home" / "data"
    cifar10.unpack(archive, data)
    fits(*cifar10.read(data))
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {
        "mine.tgz", "home", "home/data", "home/data/SHA256SUMS",
        *(f"home/data/{name}" for name in NAMES)}


@pytest.mark.parametrize("member, words", [
    (header(f"{HEAD}test_batch.bin", tarfile.SYMTYPE, "data_batch_1.bin", 61_460),
     "test_batch.bin of .*mine.tgz must be a plain file of 61,460 bytes; got .*type 2, 61,460"),
    (header(f"{HEAD}test_batch.bin", tarfile.LNKTYPE, f"{HEAD}data_batch_1.bin", 61_460), "type 1"),
    (header(f"{HEAD}test_batch.bin", tarfile.SYMTYPE, "/etc/passwd"), "type 2, 0 bytes"),
    (header(f"{HEAD}test_batch.bin", tarfile.DIRTYPE), "type 5"),
    ((f"{HEAD}test_batch.bin", raw("test_batch.bin")[:-1]), "61,460 bytes; got .*61,459 bytes"),
    ((f"{HEAD}test_batch.bin", raw("test_batch.bin") + b"x"), "61,460 bytes; got .*61,461 bytes"),
    (("test_batch.bin", raw("test_batch.bin")), f"one with {HEAD}test_batch.bin; got 'none'"),
])
def test_a_bad_member_is_named(archive, tmp_path, monkeypatch, member, words):
    bad = tar_gz([m for m in members() if "test_batch" not in m[0]] + [member])
    adopt(monkeypatch, bad)
    archive.write_bytes(bad)
    with pytest.raises(ValueError, match=words):
        cifar10.unpack(archive, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tgz"]


@pytest.mark.parametrize("owner, name", [(os, "fsync"), (os, "rename")])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), PermissionError(13, "no")])
def test_a_failing_disk_leaves_no_half_folder(archive, tmp_path, monkeypatch, owner, name, error):
    def fail(*args):
        raise error

    (tmp_path / "data.part").mkdir()  # what a killed process left
    (tmp_path / "data.part" / "test_batch.bin").write_bytes(b"half")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(type(error)):
            cifar10.unpack(archive, tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tgz"]
    cifar10.unpack(archive, tmp_path / "data")
    fits(*cifar10.read(tmp_path / "data"))


def test_files_are_on_the_disk_before_they_get_their_names(server, tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace", "rename"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, call=call: (calls.append(n), call(*a))[1])
    cifar10.cifar10("test", server.url, tmp_path)
    assert calls == ["fsync", "replace", *["fsync"] * 7, "rename"]


# Downloads.

def test_a_download(server, tmp_path, bars):
    for split in ("train", "test"):
        fits(*cifar10.cifar10(split, server.url, tmp_path), split)
    assert server.asked == [("/a.tar.gz", None)] and left(tmp_path) == DONE
    assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == GENUINE
    assert bars == [[len(GENUINE), 0, len(GENUINE)]]


def test_the_official_archive_is_the_default(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "URL", server.url)
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "mine"))
    fits(*cifar10.cifar10("test"), "test")
    assert left(tmp_path / "mine") == DONE


def test_a_redirect(server, tmp_path):
    """Which passes the Range on."""
    part = tmp_path / "a.part"
    part.write_bytes(GENUINE[:1000])
    cifar10.fetch(server.url.replace("/a.tar.gz", "/moved"), tmp_path / "a")
    assert server.asked == [("/moved", "bytes=1000-"), ("/a.tar.gz", "bytes=1000-")]
    assert (tmp_path / "a").read_bytes() == GENUINE and not part.exists()


def test_a_cut_download_goes_on(server, tmp_path, bars):
    server.cut = 150_000
    with pytest.raises(ConnectionError) as caught:
        cifar10.cifar10("train", server.url, tmp_path)
    part = tmp_path / "cifar-10-binary.tar.gz.part"
    assert f"Call again to go on: the first 150,000 bytes are kept in {part}." in str(caught.value)
    assert left(tmp_path) == PART and part.read_bytes() == GENUINE[:150_000]
    server.cut = None
    fits(*cifar10.cifar10("train", server.url, tmp_path))
    assert server.asked == [("/a.tar.gz", None), ("/a.tar.gz", "bytes=150000-")]
    assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == GENUINE and left(tmp_path) == DONE
    assert bars == [[len(GENUINE), 0, 150_000], [len(GENUINE), 150_000, len(GENUINE)]]


def test_a_server_without_ranges_begins_again(server, tmp_path, bars):
    server.ranges = False
    part = tmp_path / "a.part"
    part.write_bytes(b"x" * 1000)
    assert cifar10.fetch(server.url, tmp_path / "a") == tmp_path / "a"
    assert server.asked == [("/a.tar.gz", "bytes=1000-")] and not part.exists()
    assert (tmp_path / "a").read_bytes() == GENUINE
    assert bars == [[len(GENUINE), 0, len(GENUINE)]]


@pytest.mark.parametrize("name, value", [
    ("Content-Range", f"bytes 999-{len(GENUINE) - 1}/{len(GENUINE)}"),
    ("Content-Range", f"bytes 1000-{len(GENUINE) - 2}/{len(GENUINE)}"),
    ("Content-Range", f"bytes 1000-{len(GENUINE) - 1}/{len(GENUINE) + 1}"),
    ("Content-Range", "bytes 1000-*/*"), ("Content-Range", None)])
def test_another_range_is_refused(server, tmp_path, name, value):
    part = tmp_path / "a.part"
    part.write_bytes(GENUINE[:1000])
    server.headers = {name: value}
    wanted = f"bytes 1000-{len(GENUINE) - 1}/{len(GENUINE)}"
    words = f"its Content-Range is {value!r} where the archive's is '{wanted}'"
    with pytest.raises(ConnectionError, match=re.escape(words)):
        cifar10.fetch(server.url, tmp_path / "a")
    assert part.read_bytes() == GENUINE[:1000] and not (tmp_path / "a").exists()


@pytest.mark.parametrize("length", [None, str(len(GENUINE) - 1), str(len(GENUINE) + 1)])
def test_another_length_is_refused(server, tmp_path, length):
    server.headers = {"Content-Length": length}
    words = f"its Content-Length is {length!r} where the archive's is '{len(GENUINE)}'"
    with pytest.raises(ConnectionError, match=words):
        cifar10.fetch(server.url, tmp_path / "a")
    assert left(tmp_path) == set()


def refused(server, home, received):
    """What came is named, with what should have, and not kept: the next one begins at zero."""
    with pytest.raises(ValueError) as caught:
        cifar10.fetch(server.url, home / "a")
    assert str(caught.value) == (
        f"what came from {server.url} must be the archive of {len(GENUINE):,} bytes, md5 "
        f"{hashlib.md5(GENUINE).hexdigest()}; got '{len(received):,} bytes, md5 "
        f"{hashlib.md5(received).hexdigest()}'")
    assert left(home) == set()


@pytest.mark.parametrize("begun", [0, 1000])
def test_wrong_bytes_are_not_kept(server, tmp_path, begun):
    server.body = GENUINE[:-1] + bytes([GENUINE[-1] ^ 1])
    (tmp_path / "a.part").write_bytes(server.body[:begun])
    refused(server, tmp_path, server.body)
    assert server.asked == [("/a.tar.gz", f"bytes={begun}-" if begun else None)]


def test_a_part_of_something_else_is_not_kept(server, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    refused(server, tmp_path, b"x" * 1000 + GENUINE[1000:])
    (tmp_path / "a.part").write_bytes(GENUINE + b"x")
    refused(server, tmp_path, GENUINE + b"x")
    assert len(server.asked) == 1


def test_a_server_that_does_not_stop(server, tmp_path):
    """It promises the rest, and sends without end: a chunk too much at most is taken."""
    server.body, n = GENUINE + bytes(10**6), len(GENUINE)
    server.headers = {"Content-Length": None, "Content-Range": f"bytes 1000-{n - 1}/{n}"}
    (tmp_path / "a.part").write_bytes(GENUINE[:1000])
    with pytest.raises(ValueError, match="what came from") as caught:
        cifar10.fetch(server.url, tmp_path / "a")
    size = int(re.search(r"got '([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    assert n <= size < n + 7_000 and left(tmp_path) == set()


def test_a_download_killed_at_its_end_is_only_looked_at(server, tmp_path):
    (tmp_path / "a.part").write_bytes(GENUINE)
    cifar10.fetch(server.url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == GENUINE and server.asked == []


def test_an_archive_put_there_by_hand(server, tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(GENUINE[:-1])
    with pytest.raises(ValueError, match=f"archive {path} must be the archive"):
        cifar10.cifar10("train", server.url, tmp_path)
    assert left(tmp_path) == {path.name}, "another's file is not ours to remove"
    path.write_bytes(GENUINE)
    fits(*cifar10.cifar10("train", server.url, tmp_path))
    assert server.asked == []


def offline(url, home, reason):
    """The error names the reason, and says what to put where."""
    with pytest.raises(ConnectionError) as caught:
        cifar10.cifar10("train", url, home)
    said = str(caught.value)
    assert said.startswith(f"{url} did not come: ") and re.search(reason, said)
    md5, place = cifar10.DIGESTS["md5"], home / "cifar-10-binary.tar.gz"
    size = f"{len(GENUINE):,} bytes"
    for words in (f"put {place.name} ({size}, md5 {md5}, from {cifar10.URL}) at {place};",
                  "a mirror's URL", "data_batch_1.bin to data_batch_5.bin and test_batch.bin",
                  "minidiff.data.digits and minidiff.data.shapes need no download"):
        assert words in said
    return said


def test_no_server(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.tar.gz"
    assert "Call again" not in offline(url, tmp_path, "URLError")
    assert left(tmp_path) == set()


def test_no_such_page(server, tmp_path):
    offline(server.url.replace("/a.tar.gz", "/none"), tmp_path, "HTTP Error 404")
    offline(f"http://127.0.0.1:{server.server_port}x/", tmp_path, "InvalidURL")


def test_a_server_that_says_nothing_more(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "TIMEOUT", 1)
    server.cut, server.hold = 150_000, threading.Event()
    said = offline(server.url, tmp_path, "TimeoutError")
    assert "the first 150,000 bytes" in said and left(tmp_path) == PART


def test_a_full_disk_gets_its_room_back(server, tmp_path):
    resource = pytest.importorskip("resource", reason="the limit is Unix's")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            cifar10.cifar10("train", server.url, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not isinstance(caught.value, ConnectionError) and left(tmp_path) == set()


# Several processes.

CHILD = """
import importlib, json, sys
module = importlib.import_module("minidiff.data.cifar10")
for name, value in json.loads(sys.argv[1]).items():
    setattr(module, name, value)
images, labels = module.cifar10("train", *sys.argv[2:])
print(len(images), int(images.sum()), int(labels.sum()))
"""


def child(server, home):
    root = Path(cifar10.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(official(GENUINE)), server.url, str(home)],
        env={**os.environ, "PYTHONPATH": str(root)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(what):
    for _ in range(400):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("nothing came in 20 s")


def printed(home):
    images, labels = cifar10.read(home / "cifar-10-batches-bin", "train")
    fits(images, labels)
    return f"{len(images)} {int(images.sum())} {int(labels.sum())}\n"


def test_two_processes_download_once(server, tmp_path):
    server.cut, server.hold = 150_000, threading.Event()
    first = child(server, tmp_path)
    until(lambda: server.asked)
    second = child(server, tmp_path)
    assert second.stdout.readline() == (
        f"Another process is fetching CIFAR-10 into {tmp_path}: waiting for it.\n")
    time.sleep(0.5)  # in which it would say so again
    server.hold.set()
    out = [process.communicate(timeout=20)[0] for process in (first, second)]
    assert out == [printed(tmp_path)] * 2 and first.returncode == second.returncode == 0
    assert server.asked == [("/a.tar.gz", None)] and left(tmp_path) == DONE


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_killed_download_is_taken_up_by_who_waits(server, tmp_path):
    """kill -9 leaves no lock behind, and the bytes that came."""
    server.cut, server.hold = 150_000, threading.Event()
    part, [first] = tmp_path / "cifar-10-binary.tar.gz.part", [child(server, tmp_path)]
    until(lambda: part.exists() and part.stat().st_size > 100_000)
    second = child(server, tmp_path)
    assert "waiting" in second.stdout.readline()
    first.kill()
    assert first.wait() == -signal.SIGKILL
    server.hold.set()
    out, errors = second.communicate(timeout=20)
    assert out == printed(tmp_path), errors
    (_, nothing), (_, asked) = server.asked
    begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
    assert nothing is None and 100_000 < begin <= 150_000
    assert (tmp_path / "cifar-10-binary.tar.gz").read_bytes() == GENUINE and left(tmp_path) == DONE
    assert f"{len(GENUINE) / 1e3:.0f}k" in errors, "a progress bar"


def test_threads_exclude_each_other_too(tmp_path):
    """And an error inside opens the lock."""
    inside = []

    def enter():
        with cifar10._alone(tmp_path / "lock"):
            inside.append(1)

    with pytest.raises(KeyError), cifar10._alone(tmp_path / "lock"):
        other = threading.Thread(target=enter)
        other.start()
        time.sleep(0.1)
        assert inside == []
        raise KeyError
    other.join(5)
    assert inside == [1]


# Where the cache is.

@pytest.mark.parametrize("platform, environment, where", [
    ("linux", {}, "~/.cache/minidiff"), ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/minidiff"),
    ("darwin", {"XDG_CACHE_HOME": "/x"}, "~/Library/Caches/minidiff"),
    ("win32", {"LOCALAPPDATA": "/local"}, "/local/minidiff"),
    ("win32", {}, "~/AppData/Local/minidiff"),
    ("linux", {"XDG_CACHE_HOME": "/x", "MINIDIFF_DATA": "/mine"}, "/mine"),
    ("win32", {"MINIDIFF_DATA": "~/mine"}, "~/mine"),
])
def test_the_cache(monkeypatch, platform, environment, where):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "MINIDIFF_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cifar10.cache() == Path(where).expanduser()


@pytest.mark.parametrize("call, words", [
    (lambda: cifar10.cifar10("valid"), r"split must be one of \('train', 'test'\); got 'valid'"),
    (lambda: cifar10.read("x", "all"), "split must be one of"),
    (lambda: cifar10.cifar10(source="nowhere"), "source must be a URL, .*; got 'nowhere'"),
    (lambda: cifar10.cifar10(source="file:///etc/passwd"), "source must be a URL"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
