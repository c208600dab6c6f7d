"""A training that lasts: it shows itself, survives being killed, and goes on from where it was.

All is in one folder: `checkpoint.safetensors`, `log.jsonl`, and of each look, after so many images,
`samples-<images>.png` and `weights-<images>.safetensors`. Under `torchrun` every process calls
`run` alike; the first of them writes.
"""

import dataclasses
import json
import signal
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from minidiff.errors import require
from minidiff.nn import EMA, UNet, checkpoint
from minidiff.nn.compiled import compiled
from minidiff.nn.seeds import stream
from minidiff.train import batch, in_precision, loss, train
from minidiff.trained import CHECKPOINT, DTYPES, keep_weights, picture, samples, validate

LOG = "log.jsonl"
SPEED = ("channels_last", "compile")  # what may be another when a run goes on


def run(recipe, images, labels, folder, *, held_out=None, device="cpu", seed=0, log=100, look=None,
        save=300.0):
    """Train by the recipe, or go on where the folder's run was left; yields each `train.Step`.

    images (N, C, H, W) uint8 and labels (N,) lie on the device. Every `log` steps the log gets a
    line; every `look` steps, by default twenty times in all, the averaged weights are kept, draw
    samples and tell their loss on the `held_out` (images, labels). A checkpoint is written every
    `save` seconds, at the end, and before Ctrl-C or SIGTERM has its way. A network whose slopes come
    out wrong when compiled is trained as it is. In float32 on a CPU, what goes on is the
    uninterrupted run bit for bit. Raises `ValueError` for a folder of another run, and
    `MemoryError` with advice where the device has too little.
    """
    rank, world = _place()
    device, folder = torch.device(device), Path(folder)
    mark = {**dataclasses.asdict(recipe), "seed": seed, "data": _fingerprint(images, labels)}
    images, labels = _resident(recipe, images, labels, device)
    held_out = held_out and _resident(recipe, *held_out, device)
    network, optimizer, ema = parts = _made(recipe, seed, device)
    start, past = _resume(folder, mark, parts, rank)
    look = look or max(1, recipe.steps // 20)
    keep = _keeper(recipe, folder, mark, past, parts, held_out, log, look, save)
    if recipe.compile:
        with _advice(recipe):
            _compile(network, recipe, images, labels, (rank, world))
    if world > 1:
        network = torch.nn.parallel.DistributedDataParallel(network)
    steps = train(
        network, optimizer, recipe.table, images, labels, steps=recipe.steps, size=recipe.batch,
        seed=seed, start=start, kind=recipe.kind, condition=recipe.levels, lr=recipe.lr,
        warmup=recipe.warmup, clip=recipe.clip, drop=recipe.drop, flip=recipe.flip,
        saved=folder / CHECKPOINT, decay=recipe.decay, weight=recipe.weight,
        autocast=DTYPES[recipe.precision], part=(rank, world))
    stop = 0
    with _advice(recipe), _signals(again=world == 1) as asked:
        for now in steps:
            ema.update(recipe.batch)
            stop, end = _agreed(asked, device, world), now.step == recipe.steps
            if rank == 0:
                keep(now, end, stop)
            if world > 1 and (stop or end):
                distributed.barrier()  # none leaves before the first has written
            yield now
            if stop:
                break
    if stop:
        signal.raise_signal(stop)


def _keeper(recipe, folder, mark, past, parts, held_out, log, look, save):
    """`keep(now, end, stop)`: what the folder is told between two steps."""
    begun = saved = time.monotonic()
    before, since, ema = past["seconds"], past["since"], parts[2]
    first, columns = ema.seen, recipe.network.classes or 8

    def write(now, **more):
        line = {"step": now.step, "images": ema.seen, **more,
                "seconds": before + time.monotonic() - begun}
        with open(folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def state():
        return {"run": mark, "since": since, "seconds": before + time.monotonic() - begun}

    def keep(now, end, stop):
        nonlocal saved
        since.append(now.loss)
        if now.step % log == 0 or end:
            write(now, loss=sum(since) / len(since), lr=now.lr, norm=now.norm,
                  images_a_second=(ema.seen - first) / (time.monotonic() - begun))
            since.clear()
        if now.step % look == 0 or end:
            if held_out:
                levels = validate(ema.network, recipe, *held_out)
                write(now, valid=sum(levels.values()) / len(levels), levels=levels)
            picture(samples(ema.network, recipe, 8 * columns), folder / f"samples-{ema.seen}.png",
                    columns)
            keep_weights(folder / f"weights-{ema.seen}.safetensors", now.step, state(), ema)
        if end or stop or time.monotonic() - saved >= save:  # last: nothing above is then lost
            checkpoint.save(folder / CHECKPOINT, now.step, state(), *parts)
            saved = time.monotonic()
        if stop and not end:
            print(f"\nStopped after step {now.step} of {recipe.steps}, which is saved in {folder}. "
                  "The same command goes on from there.", flush=True)

    return keep


def _made(recipe, seed, device):
    """The network, its optimizer (Adam: nothing decays) and its average, before any training."""
    network = UNet(recipe.network, stream(seed, 0, "weights")).to(device)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    ema = EMA(network, recipe.half_life)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.0,
                                  fused=device.type == "cuda")
    return network, optimizer, ema


def _compile(network, recipe, images, labels, part):
    """Compile it, or say why not."""
    drawn = batch(images, labels, 0, 0, recipe.batch, recipe.T, part=part)
    x0, t, eps, labels = (one if one is None else one.to(images.device) for one in drawn)

    def mean(network):
        said = in_precision(network, DTYPES[recipe.precision])
        return loss(said, recipe.table, x0, t, eps, recipe.kind, labels=labels,
                    condition=recipe.levels).mean()

    spoilt = compiled(network, mean)
    if spoilt:
        print("Not compiled: the slope of {} would be {:.0%} off.".format(*spoilt), flush=True)


def _resume(folder, mark, parts, rank):
    """`(steps made, what the keeper knew)` of the folder's checkpoint, where the log then ends."""
    folder.mkdir(parents=True, exist_ok=True)
    step, state = 0, {"seconds": 0.0, "since": []}
    if (folder / CHECKPOINT).exists():
        fused = parts[1].param_groups[0]["fused"]
        step, state = checkpoint.load(folder / CHECKPOINT, *parts)
        theirs, ours = state["run"], json.loads(json.dumps(mark))
        apart = [f"{name}: {theirs.get(name)} there, {ours[name]} here" for name in ours
                 if theirs.get(name) != ours[name] and name not in SPEED]
        require(not apart, f"folder {folder}", "new, or of the same run", apart)
        _settle(parts[1], fused)
    if rank == 0 and (folder / LOG).exists():
        lines = (folder / LOG).read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        (folder / f"{LOG}.part").write_text("".join(kept), encoding="utf-8")
        (folder / f"{LOG}.part").replace(folder / LOG)
    return step, state


def _settle(optimizer, fused):
    """Make the moments from a file, of another machine perhaps, what a fused step needs: on the
    device, and laid out in memory as the weights are."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["fused"] = fused
    optimizer.load_state_dict(state)
    for weight, slot in optimizer.state.items():
        for name, value in slot.items():
            if value.shape == weight.shape:
                slot[name] = torch.empty_like(weight).copy_(value)


def _resident(recipe, images, labels, device):
    """Images and labels as tensors on the device; no labels where the network has no classes."""
    config, images = recipe.network, torch.as_tensor(images)
    shape = (config.channels, config.size, config.size)
    require(images.shape[1:] == shape, "images", f"N of shape {shape}, as the recipe's network",
            tuple(images.shape))
    if not config.classes:
        return images.to(device), None
    labels = torch.as_tensor(labels).long()
    require(labels.shape == images.shape[:1] and labels.min() >= 0
            and labels.max() < config.classes, "labels",
            f"{len(images)} in 0..{config.classes - 1}, one an image", labels)
    return images.to(device), labels.to(device)


def _fingerprint(images, labels):
    crc = zlib.crc32(np.ascontiguousarray(images))
    crc = crc if labels is None else zlib.crc32(np.ascontiguousarray(labels), crc)
    return f"{len(images)} images, CRC {crc:08x}"


def _place():
    """(rank, world) of this process."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@contextmanager
def _signals(again):
    """A list for SIGTERM and Ctrl-C to be put in, to be obeyed between two steps. With `again` a
    second one is obeyed at once; `torchrun` may send it twice itself."""
    main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    usual = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM) if main}
    asked = []

    def ask(number, frame):
        asked.append(number)
        if again:
            signal.signal(number, usual[number])

    for number in usual:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _agreed(asked, device, world):
    """The signal that any process was sent, or 0; all stop at the same step."""
    number = asked[0] if asked else 0
    if world > 1:
        told = torch.tensor(int(number), device=device)
        distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
        number = told.item()
    return number


@contextmanager
def _advice(recipe):
    """What to do where memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"the device's memory is too small for batch = {recipe.batch}: try half, batch = "
            f"{recipe.batch // 2}, and perhaps half the rate, lr = {recipe.lr / 2:g}") from error
