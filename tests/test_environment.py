"""pyproject.toml, pins.txt and environment.yml name the same packages in agreeing versions."""
import importlib.metadata as metadata
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "pins.txt", "environment.yml")
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base",
               "playwright": "playwright-python"}
NOT_IN_CONDA = {"diffusers", "accelerate", "einops", "ema-pytorch"}  # no chapter needs them


def requirements(root):
    """What pyproject.toml asks for, extras included."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for line in sum(extras, project["dependencies"])]


def pins(root):
    lines = (root / "pins.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def conda(root):
    """The packages of environment.yml with their versions ("" where it gives none)."""
    listed = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    return dict((line + "=").split("=")[:2] for line in listed if isinstance(line, str))


def disagreements(root):
    """One sentence for each place where the three files part."""
    asked, pinned, in_conda = requirements(root), pins(root), conda(root)
    said = []
    for requirement in asked:
        name, pin = requirement.name, pinned.get(requirement.name)
        if pin is None or not requirement.specifier.contains(pin):
            said.append(f"{requirement} is asked for, but pinned at {pin}")
            continue
        minor = ".".join(pin.split(".")[:2])
        if name not in NOT_IN_CONDA and in_conda.get(CONDA_NAMES.get(name, name)) != minor:
            said.append(f"{name} is pinned at {pin}, but environment.yml lacks its {minor}")
    extra = set(in_conda) - {CONDA_NAMES.get(r.name, r.name) for r in asked} - {"python", "pip"}
    said += [f"environment.yml asks for {name}, pyproject.toml does not" for name in extra]
    python = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    if not Requirement("python" + python).specifier.contains(in_conda.get("python", "0")):
        said.append(f"environment.yml's Python is outside {python}")
    return said


def test_the_three_files_agree():
    assert disagreements(ROOT) == []


@pytest.mark.parametrize("file, old, new", [
    ("pins.txt", "torch==2.13.0", "torch==2.14.0"),
    ("pins.txt", "numpy==2", "numpy==3"),
    ("pins.txt", "numpy==2.4.6", "numpy==1.0.0"),
    ("pins.txt", r"nbval==\S+\n", ""),
    ("pyproject.toml", "matplotlib>=3.8", "matplotlib>=4"),
    ("pyproject.toml", '"tqdm>=4.66"', '"tqdm>=4.66", "pandas>=2"'),
    ("pyproject.toml", ', "safetensors>=0.4"', ""),
    ("pyproject.toml", ">=3.11", ">=3.13"),
    ("environment.yml", "- pytorch=2.13", "- pytorch=2.12"),
    ("environment.yml", "matplotlib-base", "matplotlib"),
    ("environment.yml", "  - tqdm=.*\n", ""),
    ("environment.yml", "  - tqdm", "  - pandas=2.2\n  - tqdm"),
])
def test_one_that_moves_alone_is_noticed(tmp_path, file, old, new):
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    text, count = re.subn(old, new, (tmp_path / file).read_text(), count=1)
    assert count == 1
    (tmp_path / file).write_text(text)
    assert disagreements(tmp_path)


def test_conda_gets_the_package_itself():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert listed["channels"] == ["conda-forge"]
    assert listed["dependencies"][-1] == {"pip": ["-e ."]}


def test_every_package_pulled_in_is_pinned():
    """Follows the requirements of the packages installed here, down to the last."""
    pinned = {canonicalize_name(name) for name in pins(ROOT)}
    todo = [(canonicalize_name(r.name), r.extras) for r in requirements(ROOT)]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if name in seen or name.startswith(("nvidia-", "cuda-", "triton")):  # torch pins these
            continue
        seen.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted = [Requirement(line) for line in lines]
        todo += [(canonicalize_name(r.name), r.extras) for r in wanted if not r.marker
                 or any(r.marker.evaluate({"extra": extra}) for extra in extras | {""})]
    assert len(seen) > len(requirements(ROOT))
    assert seen <= pinned, sorted(seen - pinned)


def test_importing_the_package_needs_numpy_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [Requirement(line).name for line in project["dependencies"]] == ["numpy"]
