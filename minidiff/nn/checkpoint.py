"""Checkpoints: a training's whole state in one safetensors file, which holds no code to be run.

Its metadata are the format's name, `about`, all that is no tensor, as JSON, and a SHA-256 of both.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from minidiff.errors import require

FORMAT = "minidiff checkpoint 1"
EARLIER = "take an earlier checkpoint"


def save(path, step, config, network, optimizer=None, ema=None):
    """Write a checkpoint, so that at any moment `path` is the old file or the new one, and whole.

    `step` says how many steps were made; `config` is a dataclass, or what JSON can hold. The
    optimizer's moments and the average are saved where they are given.
    """
    tensors = _named("network", network.state_dict())
    about = {"step": step, "config": _plain(config), "optimizer": None, "ema": None,
             "network": _plain(getattr(network, "config", None))}
    if optimizer is not None:
        state = optimizer.state_dict()
        tensors |= _named("optimizer", {f"{i}/{key}": value for i, slot in state["state"].items()
                                        for key, value in slot.items() if torch.is_tensor(value)})
        rest = {i: {key: value for key, value in slot.items() if not torch.is_tensor(value)}
                for i, slot in state["state"].items()}
        about["optimizer"] = {"kind": type(optimizer).__name__, "state": rest,
                              "groups": state["param_groups"]}
    if ema is not None:
        tensors |= _named("ema", ema.network.state_dict())
        about["ema"] = {"seen": ema.seen}
    about = json.dumps(about, default=lambda value: value.item())
    metadata = {"format": FORMAT, "about": about, "sha256": _digest(about, tensors)}
    part = Path(f"{path}.part")
    try:
        with open(part, "wb") as file:
            file.write(to_bytes(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())  # on the disk, before it takes the old one's place
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def about(path):
    """`(step, config)` of a checkpoint, config in JSON's types: enough to build the network.

    Raises `ValueError` where `path` is no whole checkpoint.
    """
    found, _ = _read(path)
    return found["step"], found["config"]


def load(path, network, optimizer=None, ema=None):
    """Read a checkpoint back into what is given, and return `(step, config)`, as `about` does.

    All is checked first: a file that is no checkpoint, cut off, damaged or of another network
    raises a `ValueError` that says so, and leaves everything as it was.
    """
    found, tensors = _read(path)
    ours = _plain(getattr(network, "config", None))
    require(found["network"] == ours, f"checkpoint {path}",
            "of a network like the one given (build that from the file's config)",
            _differences(found["network"], ours))
    states = {"network": network.state_dict()}
    for name, given in (("optimizer", optimizer), ("ema", ema)):
        require(given is None or found[name] is not None, f"checkpoint {path}",
                f"saved with an {name} (leave it out, or take another file)", "none in it")
    if ema is not None:
        states["ema"] = ema.network.state_dict()
    for part, state in states.items():
        have, want = _shapes(_under(part, tensors)), _shapes(state)
        require(have == want, f"checkpoint {path}",
                f"of tensors like those of the {part} given", _differences(have, want))
    if optimizer is not None:
        _fits_optimizer(path, found["optimizer"], tensors, optimizer)
    network.load_state_dict(_under("network", tensors))
    if optimizer is not None:
        optimizer.load_state_dict(_optimizer_state(found["optimizer"], tensors))
    if ema is not None:
        ema.network.load_state_dict(_under("ema", tensors))
        ema.seen = found["ema"]["seen"]
    return found["step"], found["config"]


def _read(path):
    """`about` and the tensors of a file that is as it was saved."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError as error:
        require(False, f"checkpoint {path}", f"a whole safetensors file ({EARLIER})", str(error))
    require(metadata.get("format") == FORMAT and "about" in metadata, f"checkpoint {path}",
            f"a file of minidiff's checkpoint.save, {FORMAT!r}", metadata)
    require(_digest(metadata["about"], tensors) == metadata.get("sha256"), f"checkpoint {path}",
            f"as it was saved ({EARLIER})", "metadata or tensors that its SHA-256 does not fit")
    return json.loads(metadata["about"]), tensors


def _named(part, tensors):
    return {f"{part}/{name}": value.detach().cpu().contiguous() for name, value in tensors.items()}


def _under(part, tensors):
    return {name.removeprefix(part + "/"): tensor for name, tensor in tensors.items()
            if name.startswith(part + "/")}


def _digest(about, tensors):
    """SHA-256 of all that a checkpoint says."""
    sha = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _plain(config):
    """A config in JSON's types."""
    config = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config
    return json.loads(json.dumps(config))


def _shapes(tensors):
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _differences(theirs, ours):
    """In words, where the file's values and the given ones part; the first of them is enough."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return "a config in the file, none here" if theirs else "no config in the file, one here"
    for name in [*ours, *theirs]:
        pair = theirs.get(name, "nothing"), ours.get(name, "nothing")
        if pair[0] != pair[1]:
            return f"{name}: {pair[0]} in the file, {pair[1]} here"


def _fits_optimizer(path, found, tensors, optimizer):
    groups = optimizer.state_dict()["param_groups"]
    have = {"kind": found["kind"], "params": [group["params"] for group in found["groups"]]}
    want = {"kind": type(optimizer).__name__, "params": [group["params"] for group in groups]}
    require(have == want, f"checkpoint {path}", "saved with an optimizer like the one given",
            _differences(have, want))
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for name, value in _under("optimizer", tensors).items():  # torch would see that a step too late
        shape = shapes[int(name.split("/")[0])]
        require(value.shape in ((), shape), f"checkpoint {path}",
                "of moments of the parameters' shapes", f"{name}: {list(value.shape)}")


def _optimizer_state(found, tensors):
    state = {int(i): dict(slot) for i, slot in found["state"].items()}
    for name, tensor in _under("optimizer", tensors).items():
        i, key = name.split("/")
        state[int(i)][key] = tensor
    groups = [{key: tuple(value) if isinstance(value, list) and key != "params" else value
               for key, value in group.items()} for group in found["groups"]]
    return {"state": state, "param_groups": groups}
