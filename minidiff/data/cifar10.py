"""CIFAR-10 (Krizhevsky 2009), fetched once from its official archive: fetch -> unpack -> read.

A record is a label's byte and 3 x 1024 bytes, the rows of the red, green and blue planes. Nothing
is unpickled. What stands under its final name is whole: files are written beside it and renamed.
"""

import hashlib
import os
import re
import shutil
import sys
import tarfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from minidiff.errors import require

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE, FOLDER, SUMS = "cifar-10-binary.tar.gz", "cifar-10-batches-bin", "SHA256SUMS"
BYTES = 170_052_171
# The md5 is from the archive's own page, the SHA-256 from TensorFlow Datasets and MLDatasets.jl.
DIGESTS = {"md5": "c32a1d4ab5d03f1284b67883e8d87530",
           "sha256": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
RECORD, SIZE = 1 + 3 * 32 * 32, 30_730_000  # bytes of a record, and of a file of 10,000
TIMEOUT, CHUNK = 30, 1 << 20  # seconds without a byte, bytes at a time


def cifar10(split="train", source=None, folder=None):
    """Images (N, 3, 32, 32) uint8 and labels (N,) uint8, which are places in NAMES; N = 50,000 for
    "train", 10,000 for "test".

    `source` is where to take them from: a URL, by default the official one, an archive's path, or a
    folder with the .bin files, which is read where it is. The others are unpacked into `folder`, by
    default `cache()`, and found there the next time. Raises `ValueError` for files that are not the
    official ones, `ConnectionError` where a download fails, which says what to do instead.
    """
    require(split in FILES, "split", f"one of {tuple(FILES)}", split)
    source = URL if source is None else os.fspath(source)
    remote = re.match("https?://", source)
    require(remote or os.path.exists(source), "source",
            "a URL, or the path of an archive or a folder that is there", source)
    if os.path.isdir(source):
        return read(source, split)
    home = Path(cache() if folder is None else folder)
    data = home / FOLDER
    if not data.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home / f"{FOLDER}.lock"):
            if not data.is_dir():  # else another process has just made it
                unpack(fetch(source, home / ARCHIVE) if remote else source, data)
    return read(data, split)


def cache():
    """The folder for downloads: the environment's MINIDIFF_DATA, or one in the platform's cache."""
    if sys.platform == "win32":
        platform = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        platform = "~/Library/Caches"
    else:
        platform = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("MINIDIFF_DATA") or Path(platform, "minidiff")).expanduser()


def fetch(url, path):
    """Download the official archive from `url` to `path`, unless that is there; returns `path`.

    A download that is cut leaves `path`.part, and the next one goes on from there. Raises
    `ConnectionError` then, and `ValueError` for what isn't the archive, which is not kept. For one
    process at a time, as is `unpack`.
    """
    path, part = Path(path), Path(f"{path}.part")
    if path.exists():  # put there by hand, perhaps
        return path
    try:
        _download(url, part)
    except ConnectionError as error:
        raise ConnectionError(f"{url} did not come: {error}. {_advice(path, part)}") from None
    try:
        _check(part, f"what came from {url}")
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def unpack(archive, folder):
    """Write the official archive's six .bin files, and their SHA-256, into a new `folder`.

    Names and sizes are this module's, never the archive's: nothing else is written, and nowhere
    else. Raises `ValueError` for another archive.
    """
    _check(archive, f"archive {archive}")
    wanted = {f"{FOLDER}/{name}": name for name in sum(FILES.values(), ())}
    folder, sums = Path(folder), ""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed process left
    part.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name not in wanted:
                    continue
                require(member.isreg() and member.size == SIZE, f"{member.name} of {archive}",
                        f"a plain file of {SIZE:,} bytes",
                        f"tar's type {member.type.decode()}, {member.size:,} bytes")
                name, data = wanted.pop(member.name), tar.extractfile(member).read()
                _write(part / name, data)
                sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        require(not wanted, f"archive {archive}", f"one with {' and '.join(wanted)}", "none")
        _write(part / SUMS, sums.encode())
        os.rename(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder, split="train"):
    """Images (N, 3, 32, 32) uint8 and labels (N,) uint8 of a folder with the official .bin files.

    Raises `ValueError` naming a file that is missing, short, long, or changed since `unpack`.
    """
    require(split in FILES, "split", f"one of {tuple(FILES)}", split)
    folder = Path(folder)
    lines = (folder / SUMS).read_text("utf-8") if (folder / SUMS).exists() else ""
    sums = {name: digest for digest, name in map(str.split, lines.splitlines())}
    images, labels = zip(*(_batch(folder / name, sums.get(name)) for name in FILES[split]))
    return np.concatenate(images), np.concatenate(labels)


def records(data, name="data"):
    """Images (n, 3, 32, 32) and labels (n,), both uint8, of n records: views of their bytes.

    Raises `ValueError` for half a record or a label above 9, in which `name` says whose they are.
    """
    require(len(data) % RECORD == 0, name, f"whole records of {RECORD} bytes", len(data))
    table = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = table[:, 0]
    wrong = np.flatnonzero(labels >= len(NAMES))
    require(len(wrong) == 0, name, "of labels 0..9", f"others in records {wrong[:9].tolist()}")
    return table[:, 1:].reshape(-1, 3, 32, 32), labels


def _batch(path, digest):
    """`records` of one whole file, of this SHA-256 unless it is None."""
    require(path.is_file(), f"folder {path.parent}", f"one with the file {path.name}", "none")
    size = path.stat().st_size
    require(size == SIZE, f"file {path}", f"{SIZE:,} bytes long", f"{size:,}")
    data = path.read_bytes()
    require(digest in (None, hashlib.sha256(data).hexdigest()), f"file {path}",
            f"as it was unpacked (remove {path.parent} to have it unpacked again)",
            "bytes that its SHA-256 does not fit")
    return records(data, f"file {path}")


def _check(path, name):
    """Raise `ValueError` unless the file is the official archive."""
    size = os.path.getsize(path)
    for kind, official in DIGESTS.items():
        empty = partial(hashlib.new, kind, usedforsecurity=False)
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, empty).hexdigest()
        require(found == official, name, f"the archive of {BYTES:,} bytes, {kind} {official}",
                f"{size:,} bytes, {kind} {found}")


def _write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # on the disk, before the folder gets its name


def _download(url, part):
    """Download to `part`, from where it ends. Raises `ConnectionError` where the server or the line
    fails. A disk that fails is given its room back.
    """
    from urllib.request import Request, urlopen  # which, like tqdm, nothing else here needs

    from tqdm.auto import tqdm

    have = part.stat().st_size if part.exists() else 0
    if have >= BYTES:
        return  # killed before it was looked at
    with _online():
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}),
                           timeout=TIMEOUT)
    with response:
        have = _begin(response, have)
        try:
            with (open(part, "ab" if have else "wb") as file,
                  tqdm(desc=ARCHIVE, total=BYTES, initial=have, unit="B", unit_scale=True) as bar):
                while have < BYTES:
                    with _online():
                        chunk = response.read1(CHUNK)  # what is there, so a cut loses nothing
                        if not chunk:
                            raise OSError("the line was cut")
                    file.write(chunk)
                    have += len(chunk)
                    bar.update(len(chunk))
                file.flush()
                os.fsync(file.fileno())
        except ConnectionError:
            raise
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _begin(response, have):
    """The byte that the answer begins with: `have`, or 0 from a server that sends it all again."""
    begin, kind, official = 0, "Content-Length", str(BYTES)
    if response.status == 206:
        begin, kind, official = have, "Content-Range", f"bytes {have}-{BYTES - 1}/{BYTES}"
    said = response.headers[kind]
    if said != official:  # a page to log in, perhaps
        raise ConnectionError(f"its {kind} is {said!r} where the archive's is {official!r}")
    return begin


@contextmanager
def _online():
    """What fails in here is the server or the line, not the disk."""
    from http.client import HTTPException

    try:
        yield
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def _advice(path, part):
    """What to do where a download failed."""
    kept = part.stat().st_size if part.exists() else 0
    again = f"Call again to go on: the first {kept:,} bytes are kept in {part}. " if kept else ""
    return (f"{again}Without a network, put {ARCHIVE} ({BYTES:,} bytes, md5 {DIGESTS['md5']}, from "
            f"{URL}) at {path}; or give cifar10() a `source`: a mirror's URL, the archive's path, "
            f"or a folder with {FILES['train'][0]} to {FILES['train'][-1]} and {FILES['test'][0]}. "
            f"minidiff.data.digits and minidiff.data.shapes need no download")


@contextmanager
def _alone(path):
    """Wait until no other process is in here. The system frees the lock when its process ends, even
    if it was killed, so no lock is ever stale.
    """
    with open(path, "ab") as file:
        waiting = False
        while not _locked(file):
            if not waiting:
                print(f"Another process is fetching CIFAR-10 into {path.parent}: waiting for it.",
                      flush=True)
            waiting = True
            time.sleep(0.2)
        yield


def _locked(file):
    """Lock an open file, unless another process has; whether we did."""
    try:
        if sys.platform == "win32":
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # what Linux and macOS say, and Windows
        return False
    return True
