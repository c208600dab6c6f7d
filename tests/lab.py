"""JupyterLab as `book.py lab` starts it, on a copy of the book; and pages that are watched."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.request import Request, urlopen

import pytest
from conftest import BOOK, CHAPTERS, ROOT
from test_launcher import load

CHROMIUM = os.environ.get("MINIDIFF_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Nothing but this machine has an address. The sandbox needs rights that containers don't give.
FLAGS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-sandbox",
         "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
           "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # or the user's own are used
OPTIONS = ["--LabApp.expose_app_in_browser=True",  # to ask the kernel whether it is done
           "--ServerApp.shutdown_no_activity_timeout=900",  # after tests that were killed
           "--MappingKernelManager.cull_idle_timeout=900"]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells off the screen are gone
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, its token, and the folder that it serves."""

    url: str
    token: str
    root: object

    def ask(self, path, method="GET"):
        """What the server answers, decoded."""
        request = Request(self.url + path, method=method,
                          headers={"Authorization": f"token {self.token}"})
        with urlopen(request, timeout=30) as response:
            return json.loads(response.read() or "null")

    def stop_kernels(self):
        """End all kernels, so that they don't pile up."""
        for kernel in self.ask("api/kernels"):
            self.ask(f"api/kernels/{kernel['id']}", "DELETE")


@contextmanager
def serve(folder):
    """Start JupyterLab in an empty folder, with a copy of the book; nothing outlives the block."""
    root = folder / "book"
    shutil.copytree(CHAPTERS, root / BOOK.src)
    for name in ("book.py", "book.toml"):
        shutil.copy(ROOT / name, root)
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        for plugin, values in SETTINGS.items():
            file = folder / f"JUPYTERLAB_SETTINGS_DIR/@jupyterlab/{plugin}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        launcher = load(root)
        launcher.PYTHON = sys.executable  # the environment is there already: this one
        config = next(name for name in launcher.JUPYTER if name.startswith("etc"))
        (folder / "JUPYTER_CONFIG_DIR/jupyter_server_config.py").write_text(
            launcher.JUPYTER[config])  # where there is no .venv of the launcher's
        for name, value in launcher.ONE_THREAD.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))  # the package beside these tests
        patch.delenv("MPLBACKEND", raising=False)  # the kernel's own draws in the notebook
        command, _ = launcher.COMMANDS["lab"]
        port = f"--ServerApp.port={free_port()}"
        arguments = [sys.executable, *command(["--no-browser", port, *OPTIONS])]
        with open(folder / "log", "w") as log:
            server = subprocess.Popen(arguments, cwd=root, stdin=subprocess.DEVNULL, stdout=log,
                                      stderr=log, start_new_session=True)
    try:
        lab = await_server(server, folder, root)
        yield lab
        with suppress(OSError):  # it is gone already
            lab.stop_kernels()
            lab.ask("api/shutdown", "POST")
            server.wait(30)
    finally:
        if os.name == "posix":
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
        server.kill()
        server.wait()


def await_server(server, folder, root, patience_s=90):
    """The `Lab`, as soon as its server says where it is."""
    end = time.monotonic() + patience_s
    while server.poll() is None and time.monotonic() < end:
        for file in (folder / "JUPYTER_RUNTIME_DIR").glob("jpserver-*.json"):
            with suppress(ValueError, OSError):  # half written, or not yet listening
                said = json.loads(file.read_text())
                lab = Lab(said["url"], said["token"], root)
                lab.ask("api/status")
                return lab
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'log').read_text()[-3000:]}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def watched(context, home, folder):
    """A page that fails the test if it asks anyone but `home` or logs an error.

    Whatever fails comes with a screenshot in `folder`.
    """
    page, faults = context.new_page(), []
    mine = ("data:", "blob:", "about:", home, home.replace("http:", "ws:"))

    def heard(request):
        if not request.url.startswith(mine):
            faults.append(f"asked for {request.url}")

    def logged(message):
        if message.type == "error":
            faults.append(f"logged {message.text}")

    page.on("request", heard)
    page.on("websocket", heard)
    page.on("console", logged)
    page.on("pageerror", lambda error: faults.append(f"raised {error}"))
    try:
        yield page
        assert not faults, "The page " + "; ".join(faults)
    except BaseException as error:
        with suppress(Exception):
            page.screenshot(path=folder / "page.png")
            error.add_note(f"The page when it failed: {folder / 'page.png'}")
        raise
    finally:
        page.close()
