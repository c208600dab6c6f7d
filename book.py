"""The book's launcher: one command makes the environment and runs a tool inside it.

    python book.py lab [--light] [--no-browser] [...]   open the book in JupyterLab, at chapter 1
    python book.py test [...]                           run every test, every chapter included
    python book.py normalise [FILE ...]                 run chapters, bring them to normal form
    python book.py handout [FOLDER]                     write the book for a class, no solutions
    python book.py html [FOLDER]                        build the book as a web site
    python book.py train cifar10 [...]                  train on CIFAR-10, or go on where it stopped
    python book.py sample runs/cifar10-fast [...]       draw images with what was trained
    python book.py evaluate runs/cifar10-fast [...]     score them, real images beside them
    python book.py classifier cifar10 [...]             train what judges them
    python book.py record cifar10 [...]                 all of this, as the book's own record
    python book.py bench [toy|unet|data|solvers|book]   what it costs beside others' code, here

Whatever else follows `lab` goes to JupyterLab (`--port 9999`), whatever follows `test` to pytest
(`-k schedule`), whatever follows another to its file in tools/, which says what there is.
`lab --light` leaves PyTorch out; chapters 1-6 do without it. The environment lives in `.venv`
beside this file; delete that folder and nothing of it remains.
"""
import sys

# All that follows is valid syntax for older Pythons too, so that they get as far as this.
if sys.version_info < (3, 11):
    sys.exit("The book needs Python 3.11 or newer; this is Python %d.%d. Install one from "
             "https://www.python.org/downloads/ and use it: python3.11 book.py (or newer)."
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
STAMP = VENV / "minidiff.json"  # there as long as .venv is ours; {} until it is complete
LOCK = VENV / "minidiff.lock"
WINDOWS = os.name == "nt"
PYTHON = VENV / ("Scripts/python.exe" if WINDOWS else "bin/python")
VERSION = ("-I", "-S", "-c", "import sys; print(sys.version)")
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                            "VECLIB_MAXIMUM_THREADS"), "1")


# The commands: each returns what the environment's Python shall run.

def lab(arguments):
    """JupyterLab on chapter 1, for this machine only and by a token, which is Jupyter's default."""
    answer("-c", SIGN, *unmodified_chapters())
    return ["-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "--ServerApp.root_dir=%s" % ROOT,
            "--ServerApp.allow_root=True",  # root is who one is in a container
            "--LabApp.default_url=/lab/tree/" + first_chapter()] + arguments


def test(arguments):
    """Every test, and every chapter by nbval; with more threads the workers would fight."""
    os.environ.update(ONE_THREAD)
    os.environ.pop("MPLBACKEND", None)
    return ["-m", "pytest", "-n", "logical", "--maxprocesses", "8", "--dist", "loadfile",
            "--nbval", "--nbval-current-env", "--nbval-cell-timeout", "120",
            "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"] + arguments


def tool(name):
    """A command that runs tools/NAME.py."""
    return lambda arguments: ["tools/%s.py" % name] + arguments


COMMANDS = {  # what to run, and the extras of pyproject.toml that it needs
    "lab": (lab, {"lab", "torch"}),
    "test": (test, {"lab", "torch", "html", "test", "peers"}),
    "normalise": (tool("normalise"), {"lab", "torch"}),
    "handout": (tool("handout"), {"lab"}),
    "html": (tool("webbook"), {"lab", "html"}),
    "train": (tool("train"), {"lab", "torch"}),
    "sample": (tool("sample"), {"lab", "torch"}),
    "evaluate": (tool("evaluate"), {"lab", "torch"}),
    "classifier": (tool("classifier"), {"lab", "torch"}),
    "record": (tool("record"), {"lab", "torch"}),
    "bench": (tool("bench"), {"lab", "torch", "html", "test", "peers", "bench"}),
}


def main(arguments):
    """Run one command and return what `sys.exit` takes: a status, or a sentence on a failure."""
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    if not arguments or arguments[0] == "help" or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    name, arguments = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise Failure("There is no command %r; there are %s. `python book.py --help` says "
                          "what they do." % (name, ", ".join(COMMANDS)))
        command, extras = COMMANDS[name]
        if name == "lab" and "--light" in arguments:
            arguments.remove("--light")
            extras = extras - {"torch"}
        prepare(extras)
        os.chdir(ROOT)
        return become(command(arguments))
    except Failure as failure:
        return "\n%s" % failure
    except OSError as error:
        return "\n" + explain(str(error))
    except KeyboardInterrupt:
        return ("\nStopped. Run the same command again and it continues: what is already "
                "downloaded is kept.")


def become(arguments):
    """Turn into the environment's Python: no launcher stays whose death could orphan a server."""
    command = [str(PYTHON)] + arguments
    if not WINDOWS:
        os.execv(PYTHON, command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the tool too, which decides
    return subprocess.call(command)


# What can go wrong.

class Failure(Exception):
    """Something that the reader can mend; the message says how."""


ADVICE = (  # the first pattern found in a failed step's last words, and what to do about it
    (r"No space left|Errno 28\b|WinError 112|not enough space",
     "The disk is full. Free about 3 GB (or set TMPDIR to a folder on a larger disk) and run the "
     "same command again."),
    (r"Read-only file system|Errno 30\b",
     "This folder cannot be written to. Copy the book to a folder of your own and run it there."),
    (r"Permission denied|Errno 13\b|Errno 1\b|Access is denied|WinError (5|32)\b",
     "Permission denied. Close what still uses the book's .venv; if that is not it, copy the book "
     "to a folder of your own and run it there."),
    (r"ensurepip|No module named '?venv",
     "This Python lacks its `venv` module. On Debian and Ubuntu: sudo apt install python3-venv. "
     "Elsewhere, take Python from https://www.python.org/downloads/. Then run this again."),
    (r"ConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
     r"|ProtocolError|IncompleteRead|connection (broken|aborted)|timed out|getaddrinfo"
     r"|name resolution|Network is unreachable|Connection (refused|reset)",
     "The packages cannot be downloaded: no network. Check the connection (behind a proxy, set "
     "HTTPS_PROXY) and run the same command again; what is already downloaded is kept."),
    (r"No matching distribution|ResolutionImpossible|conflicting dependencies",
     "A package has no version for this Python (%d.%d) on this machine. Delete the folder .venv "
     "and run this with Python 3.11, 3.12 or 3.13, 64-bit." % sys.version_info[:2]),
)


def explain(output):
    """What to do about a step that failed saying `output`."""
    if shutil.disk_usage(ROOT).free < 5e7:  # `venv` keeps to itself why it failed
        output += "\nNo space left on the disk"
    for pattern, advice in ADVICE:
        found = re.search(".*(?:%s).*" % pattern, output, re.IGNORECASE)
        if found:
            return "%s\n(The message was: %.300s)" % (advice, found.group().strip())
    return ("%s\nA step failed; above are its last words. If they do not help, delete the folder "
            ".venv and run the same command again." % output.strip())


# The environment.

def prepare(extras):
    """Make `.venv` hold the package with at least these extras; they never shrink."""
    if ready(extras):
        return
    if not disposable():
        raise Failure("%s was not made by this launcher, so it is left alone. Rename or delete "
                      "it, then run the same command again." % VENV)
    VENV.mkdir(exist_ok=True)
    with locked():
        if ready(extras):  # by another launcher, while we waited
            return
        known = read_stamp()
        extras = sorted(extras | set(known.get("extras", ())))
        write_stamp({})  # an installation that is killed from here on is not trusted...
        if not starts(known):
            remake()
        try:
            install(extras)
        except Failure:
            if starts(known):
                write_stamp(known)  # ...but pip itself undoes what it could not finish
            raise
        write_stamp({"inputs": inputs(), "python": answer(*VERSION), "extras": extras})


def remake():
    """A fresh virtual environment in `.venv`, emptied of all but the stamp and the lock."""
    for child in VENV.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child not in (STAMP, LOCK):
            child.unlink()
    # Not sys.executable: that may have lain in the very folder just emptied.
    follow("Making the environment .venv", sys._base_executable, "-m", "venv", str(VENV))


def install(extras):
    """Install the package with these extras in the pinned versions."""
    torch = re.search(r"^torch==(\S+)", (ROOT / "pins.txt").read_text(), re.MULTILINE)
    present = VENV.glob("lib/python*/site-packages/torch-%s[.+]*dist-info" % torch[1])
    if "torch" in extras and sys.platform == "linux" and not has_nvidia() and not any(present):
        # The usual build for Linux brings gigabytes of CUDA; it must do where this can't be had.
        with contextlib.suppress(Failure):
            pip("Trying PyTorch's CPU build first", "--no-deps", "--retries", "2", "--timeout",
                "15", "--index-url", CPU_TORCH, torch[0])
    pip("Installing the book's packages", "-c", "pins.txt", "-e", ".[%s]" % ",".join(extras))
    for name, text in JUPYTER.items():
        (VENV / name).parent.mkdir(parents=True, exist_ok=True)
        (VENV / name).write_text(text, encoding="utf-8")


JUPYTER = {  # how JupyterLab is set up in .venv
    "share/jupyter/lab/settings/overrides.json":
        '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}',
    "etc/jupyter/jupyter_server_config.py": """# Opening a chapter must not change it:
# so the names that JupyterLab writes down of a kernel are not saved.
def keep(model, **_):
    notes = model["content"]["metadata"] if model["type"] == "notebook" else {}
    if notes.get("kernelspec", {}).get("name") == "python3":
        notes["kernelspec"].update(display_name="Python 3", language="python")
        notes["language_info"] = {"name": "python"}


c.ContentsManager.pre_save_hook = keep
"""}


def pip(title, *arguments):
    follow(title, str(PYTHON), "-u", "-m", "pip", "install", "--no-input",
           "--disable-pip-version-check", "--progress-bar", "off", *arguments)


def follow(title, *command):
    """Run a command with the seconds and its newest line on show; raises `Failure` if it fails."""
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        close_fds=False)  # it inherits the lock, for it may outlive us
    start, lines = time.monotonic(), collections.deque([""], maxlen=40)
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            show(title, time.monotonic() - start, lines[-1].strip())
            reader.join(0.25 if sys.stdout.isatty() else 10)
        status = process.wait()
    finally:
        process.terminate()
        process.wait()
    show(title, time.monotonic() - start, "that did not work" if status else "done", end="\n")
    if status:
        raise Failure(explain("".join(lines)))


def show(title, seconds, line, end=""):
    """How far a step is: in a terminal the line renews itself, elsewhere it is printed again."""
    width = shutil.get_terminal_size().columns - 1
    text = ("%s: %.0f s  %s" % (title, seconds, line))[:width].rstrip()
    sys.stdout.write("\r" + text.ljust(width) + end if sys.stdout.isatty() else text + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def locked():
    """Hold `.venv` against other launchers; the system frees it when we and our pip are gone."""
    with open(LOCK, "w") as file:
        os.set_inheritable(file.fileno(), True)
        if not try_lock(file):
            print("Another `book.py` is installing into this .venv; waiting for it to end "
                  "(Ctrl-C stops waiting).")
            while not try_lock(file):
                time.sleep(0.25)
        yield


def try_lock(file):
    try:
        if WINDOWS:
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # of other kinds: a file system without locks, so do without
        return not isinstance(error, (BlockingIOError, PermissionError))
    return True


# The state of the environment.

def ready(extras):
    known = read_stamp()
    return known.get("inputs") == inputs() and extras <= set(known["extras"]) and starts(known)


def starts(known):
    """Whether the environment's Python starts and is the one that the stamp tells of."""
    return bool(known) and known["python"] == answer(*VERSION)


def disposable():
    """Whether `.venv` may be emptied: there is none, it is ours, or it is of no use to anyone."""
    if (VENV / "pyvenv.cfg").is_file() and not STAMP.exists():
        return not answer("-m", "pip", "--version")
    return STAMP.exists() or not any(p.is_file() for p in VENV.rglob("*") if p != LOCK)


def read_stamp():
    """What the last installation left; {} where it was not finished."""
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def write_stamp(content):
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(content))
    os.replace(new, STAMP)


def inputs():
    """What an installation depends on: the two files, and where the book lies."""
    files = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "pins.txt").read_bytes()
    return hashlib.sha256(files + str(ROOT).encode()).hexdigest()


def answer(*arguments):
    """What the environment's Python says, or "" where it doesn't start or fails."""
    try:
        return subprocess.run([str(PYTHON)] + list(arguments), capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def has_nvidia():
    return Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))


# The chapters.

SIGN = """if True:  # as `jupyter trust` does, so that JupyterLab shows their widgets
    import sys
    if sys.argv[1:]:
        import nbformat, nbformat.sign
        notary = nbformat.sign.NotebookNotary()
        for file in sys.argv[1:]:
            notary.sign(nbformat.read(file, as_version=4))"""


def unmodified_chapters():
    """The chapters that are byte for byte as chapters/checksums.txt, by sha256sum, has them."""
    sums = ROOT / "chapters" / "checksums.txt"
    text = sums.read_text(encoding="utf-8") if sums.exists() else ""
    listed = re.findall("^([0-9a-f]{64})  (.+)$", text, re.MULTILINE)
    return [str(sums.parent / name) for digest, name in listed if (sums.parent / name).is_file()
            and hashlib.sha256((sums.parent / name).read_bytes()).hexdigest() == digest]


def first_chapter():
    """The path of the first chapter that book.toml names."""
    try:
        book = tomllib.loads((ROOT / "book.toml").read_text(encoding="utf-8"))
        return "%s/%s" % (book["book"]["src"], book["part"][0]["chapter"][0]["file"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise Failure("book.toml does not name a first chapter (%r). Restore it, for example "
                      "with `git checkout book.toml`." % error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
