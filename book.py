"""The book's launcher: one command makes the environment and runs a tool inside it.

    python book.py lab [--light] [--no-browser] [...]   open the book in JupyterLab, at chapter 1
    python book.py test [...]                           run every test, every chapter included
    python book.py normalise [FILE ...]                 run chapters, bring them to normal form

Whatever else follows `lab` goes to JupyterLab (`--port 9999`), whatever follows `test` to pytest
(`-k schedule`). `lab --light` leaves PyTorch out; chapters 1-6 do without it. The environment
lives in `.venv` beside this file; delete that folder and nothing of it remains.
"""
import sys

# Everything below is also valid syntax for Pythons too old to run it, so that they get this far.
if sys.version_info < (3, 11):
    sys.exit("The book needs Python 3.11 or newer; this is Python %d.%d. Install one from "
             "https://www.python.org/downloads/ and run `python3.11 book.py` (or newer) with it."
             % sys.version_info[:2])

import collections
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "minidiff.json"  # in .venv from its first moment on: its presence says that we made it
LOCK = "minidiff.lock"
WINDOWS = os.name == "nt"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                            "VECLIB_MAXIMUM_THREADS"), "1")


# The commands: each says what the environment's Python shall run.

def lab(arguments):
    """JupyterLab on chapter 1, for this machine only; its token is Jupyter's own default."""
    trust(unmodified_chapters())
    return ["-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "--ServerApp.root_dir=%s" % ROOT,
            "--ServerApp.allow_root=True",  # root is who one is in a container
            "--LabApp.default_url=/lab/tree/" + first_chapter(),
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.news_url=None"] + [a for a in arguments if a != "--light"]


def test(arguments):
    """Every test, and every chapter by nbval; one thread a worker, or they trip over each other."""
    os.environ.update(ONE_THREAD)
    os.environ.pop("MPLBACKEND", None)
    return ["-m", "pytest", "-n", "logical", "--maxprocesses", "8", "--dist", "loadfile",
            "--nbval", "--nbval-current-env", "--nbval-cell-timeout", "120",
            "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"] + arguments


def tool(name):
    return lambda arguments: ["tools/%s.py" % name] + arguments


COMMANDS = {  # what to run, and the extras of pyproject.toml that it needs
    "lab": (lab, {"lab", "torch"}),
    "test": (test, {"lab", "torch", "test"}),
    "normalise": (tool("normalise"), {"lab", "torch"}),
}


def main(arguments):
    """Run one command; returns the exit status. On POSIX it becomes the tool and never returns."""
    if not arguments or {"-h", "--help", "help"} & set(arguments):
        print(__doc__)
        return 0
    name, arguments = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise Failure("There is no command %r. The commands are: %s. `python book.py --help` "
                          "says what they do." % (name, ", ".join(COMMANDS)))
        command, extras = COMMANDS[name]
        prepare(extras - {"torch"} if name == "lab" and "--light" in arguments else extras)
        os.chdir(ROOT)
        return become(python(), command(arguments))
    except Failure as failure:
        print("\n%s" % failure, file=sys.stderr)
    except OSError as error:
        print("\n%s" % explain(str(error)), file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again and it continues: what is already "
              "downloaded is kept.", file=sys.stderr)
    return 1


def become(program, arguments):
    """Turn into `program`: there is no launcher left whose death could orphan a server."""
    sys.stdout.flush()
    if not WINDOWS:
        os.execv(program, [str(program)] + arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child too; it decides
    return subprocess.call([str(program)] + arguments)


# The environment.

class Failure(Exception):
    """Something that the reader can mend; the message says how."""


ADVICE = (  # the first pattern found in what a failed step said, and what to do about it
    (r"No space left|Errno 28\b|WinError 112|not enough space",
     "The disk is full. Free about 3 GB (or set TMPDIR to a folder on a larger disk) and run the "
     "same command again."),
    (r"Read-only file system|Errno 30\b",
     "This folder cannot be written to. Copy the book to a folder of your own and run it there."),
    (r"Permission denied|Errno 13\b|Errno 1\b|Access is denied|WinError (5|32)\b",
     "Permission denied. Close whatever still uses the book's .venv; if that is not it, copy the "
     "book to a folder of your own and run it there."),
    (r"ensurepip|No module named '?venv",
     "This Python lacks its `venv` module. On Debian and Ubuntu: sudo apt install python3-venv. "
     "Elsewhere, take Python from https://www.python.org/downloads/. Then run this again."),
    (r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
     r"|ConnectionError|ProtocolError|IncompleteRead|connection (broken|aborted)|timed out"
     r"|getaddrinfo|name resolution|Network is unreachable|Connection (refused|reset)",
     "The packages cannot be downloaded: no network. Check the connection (behind a proxy, set "
     "HTTPS_PROXY) and run the same command again; what is already downloaded is kept."),
    (r"No matching distribution|ResolutionImpossible|conflicting dependencies",
     "A package has no version for this Python (%d.%d) on this machine. Delete the folder .venv "
     "and run this with Python 3.11, 3.12 or 3.13, 64-bit." % sys.version_info[:2]),
)


def explain(output):
    """What to do about a step that failed saying `output`."""
    for pattern, advice in ADVICE:
        found = re.search(".*(?:%s).*" % pattern, output, re.IGNORECASE)
        if found:
            return "%s\n(The message was: %s)" % (advice, found.group().strip())
    return ("%s\nThe last step failed; above are its last words. If they do not help, delete the "
            "folder .venv and run the same command again." % output.strip())


def prepare(extras):
    """Make `.venv` hold the package with at least these extras; extras never shrink."""
    if ready(extras):
        return
    if not (made_by_us() or useless()):
        raise Failure("%s was not made by this launcher, so it is left alone. Rename or delete "
                      "it, then run the same command again." % VENV)
    VENV.mkdir(exist_ok=True)
    with locked() as waited:
        if waited and ready(extras):
            return
        known = stamp()
        if not intact(known):
            print("Making the environment in %s" % VENV, flush=True)
            write_stamp({})
            remake()
        extras = sorted(extras | set(known.get("extras", ())))
        write_stamp({})  # a killed installation is not trusted...
        try:
            install(extras)
        except Failure:
            if intact(known):
                write_stamp(known)  # ...but pip undoes what it could not finish
            raise
        write_stamp({"inputs": inputs(), "python": version(), "extras": extras})


def install(extras):
    """Install the package with these extras in the pinned versions."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "pins.txt").read_text(), re.MULTILINE))
    torch = "torch==" + pins["torch"]
    here = "torch-%s[.+]*dist-info" % pins["torch"]
    if ("torch" in extras and sys.platform == "linux" and not has_nvidia()
            and not any(VENV.glob("lib/python*/site-packages/" + here))):
        # The usual Linux build brings gigabytes of CUDA. Where this one can't be had, it must do.
        pip("PyTorch for CPU", "--no-deps", "--retries", "2", "--timeout", "15",
            "--index-url", CPU_TORCH, torch)
    worked, output = pip("the book's packages", "-c", "pins.txt", "-e", ".[%s]" % ",".join(extras))
    if not worked:
        raise Failure(explain(output))


def pip(title, *arguments):
    return follow("Installing " + title, "-u", "-m", "pip", "install", "--no-input",
                  "--disable-pip-version-check", *arguments)


def follow(title, *arguments, program=None):
    """Run Python with its newest line and the seconds on show; returns (worked, last lines)."""
    process = subprocess.Popen(
        [str(program or python())] + list(arguments), cwd=ROOT, text=True, encoding="utf-8",
        errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, close_fds=False)  # it inherits the lock and may outlive us
    start, lines = time.monotonic(), collections.deque(maxlen=40)
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            progress(title, time.monotonic() - start, lines[-1].strip() if lines else "")
            reader.join(0.25 if sys.stdout.isatty() else 10)
        worked = process.wait() == 0
    finally:
        process.terminate()
        process.wait()
    progress(title, time.monotonic() - start, "" if worked else "did not work", last=True)
    return worked, "".join(lines)


def progress(title, seconds, line, last=False):
    """Show how far a step is: in a terminal the line renews itself, elsewhere it is repeated."""
    width = shutil.get_terminal_size().columns - 1
    text = ("%s: %.0f s  %s" % (title, seconds, line))[:width]
    if sys.stdout.isatty():
        print("\r" + text.ljust(width), end="\n" if last else "", flush=True)
    else:
        print(text.rstrip(), flush=True)


def remake():
    """A fresh virtual environment in `.venv`, emptied of all but the stamp and the lock."""
    for child in VENV.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name not in (STAMP, LOCK):
            child.unlink()
    # Not sys.executable: that may lie in the very folder just emptied.
    worked, output = follow("Making .venv", "-m", "venv", str(VENV), program=sys._base_executable)
    if not worked:
        raise Failure(explain(output))


@contextlib.contextmanager
def locked():
    """Hold `.venv` against other launchers; the system frees it when we and our pip are gone."""
    with open(VENV / LOCK, "w") as file:
        os.set_inheritable(file.fileno(), True)
        waited = False
        while not try_lock(file):
            if not waited:
                print("Another `book.py` is installing into this .venv; waiting for it to end "
                      "(Ctrl-C stops waiting).", flush=True)
            waited = True
            time.sleep(0.25)
        yield waited


def try_lock(file):
    try:
        if WINDOWS:
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # other errors: a file system without locks, so do without
        return not isinstance(error, (BlockingIOError, PermissionError))
    return True


def python():
    return VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")


def answer(*arguments):
    """What the environment's Python says, or "" where it doesn't start or fails."""
    try:
        return subprocess.run([str(python())] + list(arguments), capture_output=True, text=True,
                              check=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version():
    return answer("-I", "-S", "-c", "import sys; print(sys.version)")


def stamp():
    """What was installed when the last installation ended; {} where it didn't."""
    try:
        return dict(json.loads((VENV / STAMP).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def write_stamp(content):
    new = VENV / (STAMP + ".new")
    new.write_text(json.dumps(content))
    os.replace(new, VENV / STAMP)


def inputs():
    """What an installation depends on: the two files, and where the book lies."""
    files = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "pins.txt").read_bytes()
    return hashlib.sha256(files + str(ROOT).encode()).hexdigest()


def intact(known):
    return bool(known) and known.get("python") == version()


def ready(extras):
    known = stamp()
    return (known.get("inputs") == inputs() and extras <= set(known.get("extras", ()))
            and intact(known))


def made_by_us():
    return (VENV / STAMP).exists()


def useless():
    """No `.venv`, or none that holds anything: no files at all, or a venv that can't run pip."""
    if (VENV / "pyvenv.cfg").is_file():
        return not answer("-m", "pip", "--version")
    return not VENV.exists() or not any(p.is_file() for p in VENV.rglob("*") if p.name != LOCK)


def has_nvidia():
    return Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))


# The chapters.

def first_chapter():
    """The path of the first chapter that book.toml names."""
    try:
        book = tomllib.loads((ROOT / "book.toml").read_text(encoding="utf-8"))
        return "%s/%s" % (book["book"]["src"], book["part"][0]["chapter"][0]["file"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Failure("book.toml does not name a first chapter (%r). Restore it, for example "
                      "with `git checkout book.toml`." % error)


def unmodified_chapters():
    """The chapters that are byte for byte as the book's checksums have them."""
    folder = ROOT / "chapters"
    try:
        lines = (folder / "checksums.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line.split(maxsplit=1) for line in lines]
        return [str(folder / name) for digest, name in pairs
                if hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest]
    except (OSError, ValueError):
        return []


def trust(chapters):
    """Sign chapters in Jupyter's own database, as `jupyter trust` does, so that widgets show."""
    if chapters:
        answer("-c", "import sys, nbformat, nbformat.sign as s; notary = s.NotebookNotary();"
                     "[notary.sign(nbformat.read(f, 4)) for f in sys.argv[1:]]", *chapters)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
