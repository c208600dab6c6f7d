"""The launcher, with every process it would start replaced by a fake."""
import ast
import hashlib
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPLETE = {"python": "3.99", "extras": ["lab"]}


def load(root):
    """book.py as a module that believes it lies in `root`."""
    spec = importlib.util.spec_from_file_location("launcher", root / "book.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Steps:
    """Stands for `follow`: notes each command's title and arguments; fails where told to."""

    def __init__(self, book):
        self.book, self.titles, self.commands, self.failures = book, [], [], {}

    def __call__(self, title, *command):
        self.titles.append(title)
        self.commands.append(command)
        if "-m venv" in " ".join(command):
            (self.book.VENV / "pyvenv.cfg").write_text("")
        for part, said in self.failures.items():
            if part in title:
                raise self.book.Failure(self.book.explain(said))


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A launcher in a folder of its own, whose steps and environment are fakes."""
    for name in ("book.py", "pyproject.toml", "pins.txt", "book.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    book = load(tmp_path)
    book.steps = Steps(book)
    book.runs = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(book, "follow", book.steps)
    monkeypatch.setattr(book, "has_nvidia", lambda: False)
    monkeypatch.setattr(book, "become", lambda arguments: book.runs.append(arguments) or 0)
    monkeypatch.setattr(book, "answer", lambda *arguments: "3.99")
    monkeypatch.setattr(book.os, "environ", dict(book.os.environ))
    return book


def complete(book, **changes):
    book.VENV.mkdir()
    (book.VENV / "pyvenv.cfg").write_text("")
    book.write_stamp({"inputs": book.inputs(), **COMPLETE, **changes})


# Old Pythons

def test_import_does_nothing(tmp_path):
    (tmp_path / "book.py").write_bytes((ROOT / "book.py").read_bytes())
    load(tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["book.py"]


def test_an_old_python_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit, match="needs Python 3.11 or newer; this is Python 3.10"):
        load(ROOT)


def test_the_syntax_is_older_than_any_python_that_will_try():
    source = (ROOT / "book.py").read_text(encoding="ascii")
    tree = ast.parse(source)
    new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Nonlocal, ast.Starred, ast.Match)
    starred_in_calls = {id(a) for n in ast.walk(tree) if isinstance(n, ast.Call) for a in n.args}
    assert not [n.lineno for n in ast.walk(tree)
                if isinstance(n, new) and id(n) not in starred_in_calls]
    assert not [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)
                and (n.args.kwonlyargs or n.args.posonlyargs or n.returns)]
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.cause]
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Call)
                and getattr(n.func, "id", "") == "print" and (n.keywords or len(n.args) != 1)]


# The table of commands

def test_help_names_every_command(book, capsys):
    for arguments in ([], ["--help"], ["help"], ["lab", "-h"]):
        assert book.main(arguments) == 0
        said = capsys.readouterr().out
        assert all("book.py " + name in said for name in book.COMMANDS)
    assert book.main(["test", "-k", "help"]) == 0 and book.runs


def test_an_unknown_command_is_named(book):
    said = book.main(["lba"])
    assert "'lba'" in said and all(name in said for name in book.COMMANDS)
    assert not book.steps.titles


def test_every_command_needs_extras_that_exist(book):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(extras <= set(known) for _, extras in book.COMMANDS.values())


def test_lab_is_for_this_machine_by_token_and_passes_arguments_on(book):
    assert book.main(["lab", "--no-browser", "--port", "9999"]) == 0
    (run,) = book.runs
    assert run[:2] == ["-m", "jupyterlab"] and run[-3:] == ["--no-browser", "--port", "9999"]
    assert "--ServerApp.ip=127.0.0.1" in run
    assert not [a for a in run if "token" in a.lower() or "password" in a.lower()]
    assert "--LabApp.default_url=/lab/tree/chapters/01_noise.ipynb" in run


def test_lab_light_installs_no_torch(book):
    assert book.main(["lab", "--light"]) == 0
    assert book.read_stamp()["extras"] == ["lab"]
    assert "--light" not in book.runs[0] and "PyTorch" not in " ".join(book.steps.titles)


def test_lab_without_a_manifest_says_so(book):
    (book.ROOT / "book.toml").write_text("[book]\nsrc = 'chapters'\n")
    assert "book.toml does not name a first chapter" in book.main(["lab"])


def test_test_runs_pytest_with_one_thread_a_worker(book, monkeypatch):
    monkeypatch.chdir(book.ROOT.parent)
    book.os.environ.update({"MPLBACKEND": "agg", "OMP_NUM_THREADS": "2"})
    assert book.main(["test", "-m", "not browser"]) == 0
    (run,) = book.runs
    assert run[:2] == ["-m", "pytest"] and run[-2:] == ["-m", "not browser"]
    assert {"--nbval", "--nbval-current-env", "loadfile"} <= set(run)
    assert book.os.environ["OMP_NUM_THREADS"] == "1" and "MPLBACKEND" not in book.os.environ
    assert Path.cwd() == book.ROOT


def test_tools_get_their_arguments(book):
    assert book.main(["normalise", "a.ipynb"]) == 0
    assert book.runs == [["tools/normalise.py", "a.ipynb"]]


@pytest.mark.skipif(sys.platform == "win32", reason="there the launcher stays as a parent")
def test_the_launcher_becomes_the_tool(tmp_path, monkeypatch):
    book, called = load(ROOT), []
    monkeypatch.setattr(book.os, "execv", lambda program, command: called.append(command))
    monkeypatch.setattr(book.signal, "signal", lambda *_: None)
    monkeypatch.setattr(book.subprocess, "call", lambda command: 0)
    book.become(["-m", "x"])
    assert called == [[str(book.PYTHON), "-m", "x"]]


# What can go wrong

@pytest.mark.parametrize("said, advice", [
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
     "disk is full"),
    ("OSError: [WinError 112] There is not enough space on the disk", "disk is full"),
    ("Error: [Errno 30] Read-only file system: '/x/.venv'", "cannot be written to"),
    ("Error: [Errno 13] Permission denied: '/x/.venv'", "Permission denied. Close"),
    ("PermissionError: [WinError 5] Access is denied: 'C:\\\\x'", "Permission denied. Close"),
    ("The virtual environment was not created successfully because ensurepip is not\n"
     "available.  On Debian/Ubuntu systems, you need to install the python3-venv",
     "apt install python3-venv"),
    ("/usr/bin/python3: No module named venv", "apt install python3-venv"),
    ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /s\n"
     "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
     "ERROR: No matching distribution found for x", "no network"),
    ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.",
     "no network"),
    ("ERROR: Could not find a version that satisfies the requirement torch==2.13.0\n"
     "ERROR: No matching distribution found for torch==2.13.0", "no version for this Python"),
    ("error: could not write: no space left on device", "disk is full"),
    ("something new", "something new\nA step failed"),
])
def test_failures_say_what_to_do(book, said, advice):
    assert advice in book.explain(said)
    for step in ("environment", "the book's packages"):
        book.steps.failures = {step: said}
        assert advice in book.main(["test"])
    assert not book.runs


@pytest.mark.parametrize("error, advice", [
    (PermissionError(13, "Permission denied", "/x"), "Permission denied. Close"),
    (OSError(28, "No space left on device"), "disk is full"),
    (OSError(30, "Read-only file system"), "cannot be written to"),
    (KeyboardInterrupt(), "Run the same command again and it continues"),
])
def test_our_own_errors_say_what_to_do(book, monkeypatch, error, advice):
    def fail(extras):
        raise error
    monkeypatch.setattr(book, "install", fail)
    assert advice in book.main(["test"])
    assert book.read_stamp() == {}


def test_a_full_disk_is_recognised_without_a_word_of_it(book, monkeypatch):
    said = "Error: Command '['python', '-m', 'ensurepip']' returned non-zero exit status 1."
    assert "apt install python3-venv" in book.explain(said)
    usage = book.shutil.disk_usage(book.ROOT)._replace(free=10_000_000)
    monkeypatch.setattr(book.shutil, "disk_usage", lambda path: usage)
    assert "disk is full" in book.explain(said)


def test_follow_shows_progress_and_reports_failure(capsys):
    book = load(ROOT)
    book.follow("Step", sys.executable, "-c", "print('fine')")
    assert "Step: 0 s  done" in capsys.readouterr().out
    with pytest.raises(book.Failure, match="disk is full"):
        book.follow("Step", sys.executable, "-c", "exit('[Errno 28] No space left on device')")


# The state of the environment

def test_a_complete_environment_is_trusted(book):
    complete(book)
    book.prepare({"lab"})
    assert not book.steps.titles


def test_a_fresh_folder_gets_everything(book):
    book.prepare({"lab", "torch"})
    assert book.steps.titles == ["Making the environment .venv", "Trying PyTorch's CPU build first",
                                 "Installing the book's packages"]
    assert book.steps.commands[-1][-4:] == ("-c", "pins.txt", "-e", ".[lab,torch]")
    assert book.read_stamp() == {"inputs": book.inputs(), "python": "3.99",
                                 "extras": ["lab", "torch"]}
    book.steps.titles.clear()
    book.prepare({"lab"})
    assert not book.steps.titles


@pytest.mark.parametrize("file", ["pyproject.toml", "pins.txt"])
def test_changed_inputs_install_again_without_a_new_environment(book, file):
    complete(book)
    with open(book.ROOT / file, "a") as f:
        f.write("\n# changed\n")
    book.prepare({"lab"})
    assert book.steps.titles == ["Installing the book's packages"]
    assert book.ready({"lab"})


def test_extras_only_grow(book):
    complete(book, extras=["lab", "torch"])
    book.prepare({"test"})
    assert book.read_stamp()["extras"] == ["lab", "test", "torch"]


@pytest.mark.parametrize("stamp", ["{}", "", "[1", '{"python": "3.98", "extras": ["lab"]}'])
def test_a_half_made_environment_is_made_again(book, stamp):
    complete(book)
    book.STAMP.write_text(stamp)
    (book.VENV / "lib" / "deep").mkdir(parents=True)
    (book.VENV / "lib" / "deep" / "junk").write_text("")
    book.prepare({"lab"})
    assert book.steps.titles[0] == "Making the environment .venv"
    assert not (book.VENV / "lib").exists() and book.ready({"lab"})


def test_an_installation_that_is_killed_is_not_trusted(book, monkeypatch):
    class Killed(BaseException):
        pass

    def die(extras):
        raise Killed
    complete(book, inputs="older")
    monkeypatch.setattr(book, "install", die)
    with pytest.raises(Killed):
        book.prepare({"lab"})
    assert book.STAMP.exists() and book.read_stamp() == {} and not book.ready({"lab"})


def test_pips_own_failure_keeps_the_old_environment(book):
    complete(book, inputs="older")
    book.steps.failures = {"packages": "Read timed out"}
    with pytest.raises(book.Failure):
        book.prepare({"lab"})
    assert book.read_stamp()["inputs"] == "older"


def test_what_is_not_ours_is_left_alone(book):
    book.VENV.mkdir()
    (book.VENV / "thesis.tex").write_text("years of work")
    with pytest.raises(book.Failure, match="not made by this launcher"):
        book.prepare({"lab"})
    assert [p.name for p in book.VENV.iterdir()] == ["thesis.tex"] and not book.steps.titles


def test_another_venv_is_left_alone_unless_it_is_broken(book, monkeypatch):
    book.VENV.mkdir()
    (book.VENV / "pyvenv.cfg").write_text("")
    with pytest.raises(book.Failure, match="not made by this launcher"):
        book.prepare({"lab"})
    monkeypatch.setattr(book, "answer", lambda *arguments: "")  # its Python doesn't start
    book.prepare({"lab"})
    assert book.steps.titles[0] == "Making the environment .venv"


def test_an_empty_skeleton_is_filled(book):
    (book.VENV / "bin").mkdir(parents=True)
    book.prepare({"lab"})
    assert book.read_stamp()["extras"] == ["lab"]


def test_the_lock_waits_for_another_launcher_and_dies_with_it(book, capsys, monkeypatch):
    book.VENV.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, book\nwith book.locked():\n print(flush=True)\n"
         " sys.stdin.read()"], cwd=book.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    monkeypatch.setattr(book.time, "sleep", lambda seconds: holder.kill())  # it can't clean up
    with book.locked():
        assert "Another `book.py` is installing" in capsys.readouterr().out
    holder.communicate()
    with book.locked():
        assert not capsys.readouterr().out


# PyTorch's CPU build

def test_on_linux_without_nvidia_the_cpu_build_comes_first(book, monkeypatch):
    monkeypatch.setattr(book.sys, "platform", "linux")
    book.prepare({"torch"})
    cpu = book.steps.commands[1]
    assert cpu[-3:] == ("--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0")
    assert "--no-deps" in cpu


def test_where_it_cannot_be_had_the_usual_source_must_do(book, monkeypatch):
    monkeypatch.setattr(book.sys, "platform", "linux")
    book.steps.failures = {"CPU": "Connection refused"}
    book.prepare({"torch"})
    assert book.steps.titles[-1] == "Installing the book's packages" and book.ready({"torch"})


@pytest.mark.parametrize("name, nvidia", [("darwin", False), ("win32", False), ("linux", True)])
def test_elsewhere_there_is_no_such_step(book, monkeypatch, name, nvidia):
    monkeypatch.setattr(book.sys, "platform", name)
    monkeypatch.setattr(book, "has_nvidia", lambda: nvidia)
    book.prepare({"torch"})
    assert not [title for title in book.steps.titles if "CPU" in title]


@pytest.mark.parametrize("have, step", [
    ("2.13.0+cpu", False), ("2.13.0", False), ("2.12.0+cpu", True), ("2.13.01", True)])
def test_a_torch_of_the_pinned_version_is_kept(book, monkeypatch, have, step):
    monkeypatch.setattr(book.sys, "platform", "linux")
    complete(book)
    (book.VENV / "lib/python3.11/site-packages" / f"torch-{have}.dist-info").mkdir(parents=True)
    book.prepare({"torch"})
    assert any("CPU" in title for title in book.steps.titles) == step


# Trust

def test_only_unmodified_chapters_are_signed(book, monkeypatch):
    signed = []
    monkeypatch.setattr(book, "answer", lambda *a: signed.extend(a[2:]) or "3.99")
    chapters = book.ROOT / "chapters"
    (chapters / "solutions").mkdir(parents=True)
    lines = []
    for name in ("01_noise.ipynb", "02 changed.ipynb", "solutions/01_noise.ipynb"):
        (chapters / name).write_text(name)
        lines.append(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n")
    (chapters / "checksums.txt").write_text("".join(lines))
    (chapters / "02 changed.ipynb").write_text("changed")
    book.lab([])
    expected = [str(chapters / name) for name in ("01_noise.ipynb", "solutions/01_noise.ipynb")]
    assert signed == expected


@pytest.mark.parametrize("text", [None, "nonsense", "00  missing.ipynb\n", ""])
def test_without_good_checksums_nothing_is_signed_nor_said(book, capsys, text):
    (book.ROOT / "chapters").mkdir()
    if text is not None:
        (book.ROOT / "chapters" / "checksums.txt").write_text(text)
    assert book.unmodified_chapters() == [] and not capsys.readouterr().out


def test_signing_makes_jupyter_trust_the_chapter(book, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    from nbformat.sign import NotebookNotary
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    file = tmp_path / "x.ipynb"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(nb, file)
    monkeypatch.setattr(sys, "argv", ["-c", str(file)])
    assert not NotebookNotary().check_signature(nbformat.read(file, 4))
    exec(book.SIGN, {})
    assert NotebookNotary().check_signature(nbformat.read(file, 4))
    assert json.loads(file.read_text())["cells"][0]["metadata"] == {}


def test_a_missing_chapter_does_not_untrust_the_others(book):
    chapters = book.ROOT / "chapters"
    chapters.mkdir()
    (chapters / "a.ipynb").write_text("a")
    good = hashlib.sha256(b"a").hexdigest()
    (chapters / "checksums.txt").write_text(f"{good}  gone.ipynb\n{good}  a.ipynb\n")
    assert book.unmodified_chapters() == [str(chapters / "a.ipynb")]
