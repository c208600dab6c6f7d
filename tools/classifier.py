"""Train the classifier by whose features pictures are judged; goes on where it was stopped.

    python book.py classifier cifar10 [--epochs 12] [--folder runs/cifar10-classifier]

The data are `cifar10`, downloaded once; `shapes`, which come with the book; or where CIFAR-10's
archive or its folder is, a path or a URL. `--name` is what they are called in what is written:
`classifier.safetensors`, the weights in bf16; `classifier.md`, their card; `reference.safetensors`,
which stands for the data where they can't be had; `log.jsonl`, a line an epoch. In the book they
are chapters/weights/cifar10-classifier.* and cifar10-reference.*, and chapters/records/.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from minidiff.classifier import Classifier, Config, adapt, features, load, predict
from minidiff.errors import require
from minidiff.metrics import moments
from minidiff.nn import checkpoint, parameters
from minidiff.nn.seeds import stream
from minidiff.train import numbers
from train import RUNS, placed

KEPT = 2000    # images of each split whose features the reference has
PATCHED = 5000  # images that the whitening is made from


@dataclass(frozen=True)
class Recipe:
    """A training: SGD with Nesterov's momentum; its rate rises for a fifth, then falls to zero.

    `decay` is the weights', `smoothing` the part of a label that is spread over all classes; images
    are mirrored every other epoch, and shifted by up to `shift` pixels each way.
    """

    epochs: int = 12
    batch: int = 256
    lr: float = 0.25
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    shift: int = 3


def train(network, optimizer, images, labels, recipe, *, seed=0, start=0, autocast=None):
    """Train on images (N, 3, 32, 32) uint8 and labels (N,) on the network's device; yields
    `(epoch, loss)` after each epoch from `start` on, the loss its mean. All that is random in an
    epoch is a function of the seed and the epoch. Raises `ValueError` where N < the batch.
    """
    require(len(images) >= recipe.batch, "images", f"{recipe.batch} or more, the batch",
            len(images))
    each, device = len(images) // recipe.batch, images.device
    steps = each * recipe.epochs
    for epoch in range(start, recipe.epochs):
        network.train()
        total = 0.0
        for i, index in enumerate(order(len(images), recipe.batch, seed, epoch)):
            step = epoch * each + i
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * min((step + 1) / steps / 0.2, (1 - step / steps) / 0.8)
            x = numbers(varied(images, index, seed, step, epoch, recipe.shift))
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                logits = network(x)
            loss = F.cross_entropy(logits.float(), labels[index.to(device)],
                                   label_smoothing=recipe.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
        yield epoch + 1, (total / each).item()


def order(n, batch, seed, epoch):
    """The epoch's batches of indices, each image at most once; what is left over changes."""
    return torch.randperm(n, generator=stream(seed, epoch, "order")).split(batch)[:n // batch]


def varied(images, index, seed, step, epoch, shift):
    """The images at `index`, mirrored in every other epoch (each has its own turn) and shifted by
    chance, up to `shift` pixels each way; what comes in at an edge is what stands there, mirrored.
    """
    n, size, rng = len(index), images.shape[-1], stream(seed, step, "shift")
    turn = torch.randint(2, (len(images),), generator=stream(seed, 0, "mirror"))[index]
    rows, columns = (
        size - 1 - (size - 1 - (offset[:, None] + torch.arange(size)).abs()).abs()
        for offset in torch.randint(-shift, shift + 1, (2, n), generator=rng))
    mirrored = ((turn + epoch) % 2 == 1)[:, None]
    columns = torch.where(mirrored, size - 1 - columns, columns)
    at = (index.reshape(n, 1, 1, 1), torch.arange(3).reshape(1, 3, 1, 1), rows[:, None, :, None],
          columns[:, None, None, :])
    return images[tuple(part.to(images.device) for part in at)]


def accuracy(network, images, labels, mirrored=False):
    """The share of images whose class the network finds."""
    return float((predict(network, images, mirrored=mirrored) == np.asarray(labels)).mean())


def keep(path, network, recipe, name, **scores):
    """Write the weights, two bytes each in bf16, and what they come from; for `classifier.load`."""
    about = {"classifier": asdict(network.config), "recipe": asdict(recipe), "data": name, **scores}
    halves = Classifier(network.config)
    halves.load_state_dict(network.state_dict())
    checkpoint.save(path, recipe.epochs, about, halves.bfloat16())


def reference(network, train, test):
    """What stands for the data, arrays by name: `mean` and `cov` of the training set's features;
    features of the first 2,000 images of either split, float16, and their labels, uint8.
    """
    seen = features(network, train[0])
    mean, cov = moments(seen)
    return {"mean": mean, "cov": cov, "count": np.array([len(seen)]),
            "train": seen[:KEPT].astype(np.float16), "train_labels": train[1][:KEPT],
            "test": features(network, test[0][:KEPT]).astype(np.float16),
            "test_labels": test[1][:KEPT]}


def main(arguments):
    """Train; returns what `sys.exit` takes: a status, or a sentence on what went wrong."""
    options = parsed(arguments)
    name = options.name or Path(options.data).name
    folder = Path(options.folder or RUNS / f"{Path(options.data).name}-classifier")
    recipe = Recipe(epochs=options.epochs)
    try:
        train, test = data(options.data)
        device = placed(options.device)[1]
        network, log = trained(folder, recipe, train, test, device, options)
        write(folder, network, recipe, name, train, test, log, options.seed)
    except (ValueError, ConnectionError, OSError) as error:
        return f"\n{error}"
    except KeyboardInterrupt:
        return 130
    return 0


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="classifier", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="cifar10, shapes, or where CIFAR-10 is")
    parser.add_argument("--name", help="of the data in what is written, by default as given")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--folder", help="by default runs/DATA-classifier")
    parser.add_argument("--device", help="by default the best there is: cuda, mps or cpu")
    parser.add_argument("--float32", action="store_true", help="where bf16 is slow")
    parser.add_argument("--compile", action="store_true", help="pays off on a GPU")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def data(name):
    """`(images, labels)` to train on, and to test on."""
    if name == "shapes":
        from minidiff.data.shapes import shapes
        return shapes("train"), shapes("test")
    from minidiff.data.cifar10 import cifar10
    return tuple(cifar10(split, None if name == "cifar10" else name) for split in ("train", "test"))


def trained(folder, recipe, data, test, device, options):
    """`(network, log)` at the end of a training, which goes on where the folder's was left."""
    images = torch.as_tensor(data[0]).to(device)
    labels = torch.as_tensor(data[1]).long().to(device)
    network, optimizer = parts = made(recipe, data[0], device, options)
    kept, mark, log = folder / "checkpoint.safetensors", {
        **asdict(recipe), "seed": options.seed, "count": len(images)}, []
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        state = checkpoint.load(kept, *parts)[1]
        require(state["run"] == mark, f"folder {folder}", "new, or of the same training",
                state["run"])
        log = state["log"]
    autocast = None if options.float32 else torch.bfloat16
    past = log[-1] if log else {"seconds": 0.0, "cpu_seconds": 0.0}
    begun, cpu = time.monotonic(), time.process_time()
    for epoch, loss in train(network, optimizer, images, labels, recipe, seed=options.seed,
                             start=len(log), autocast=autocast):
        with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
            share = accuracy(network, *test)
        log.append({"epoch": epoch, "seconds": past["seconds"] + time.monotonic() - begun,
                    "cpu_seconds": past["cpu_seconds"] + time.process_time() - cpu,
                    "loss": loss, "accuracy": share})
        checkpoint.save(kept, epoch, {"run": mark, "log": log}, *parts)
        lines = "".join(json.dumps(line) + "\n" for line in log)
        (folder / "log.jsonl").write_text(lines, encoding="utf-8")
        print(f"epoch {epoch} of {recipe.epochs}: loss {loss:.3f}, test accuracy {share:.1%}, "
              f"{log[-1]['seconds']:.0f} s", flush=True)
    return network, log


def made(recipe, images, device, options):
    """The network and its optimizer, before any training."""
    network = Classifier(Config(), stream(options.seed, 0, "weights"))
    adapt(network, images[:PATCHED])
    network.to(device, memory_format=torch.channels_last)
    if options.compile:
        network.compile()  # in place, under the same names
    return network, torch.optim.SGD(network.parameters(), recipe.lr, recipe.momentum,
                                    nesterov=True, weight_decay=recipe.decay)


CARD = """# A classifier of {name}

- **For**: its {features} features judge pictures: by Fréchet and kernel distances, precision and
  recall. It is not Inception: a distance on its features is no FID, and can be compared only with
  others on the same features.
- **Data**: {name}; {train:,} images to train on, {test:,} to test.
- **Accuracy on test**: {accuracy:.2%}; {mirrored:.2%} by the mean of the logits of each image and
  of its mirror image. Both are of this file, whose weights are bf16.
- **Network**: {parameters:,} parameters; {gflop:.3f} GFLOP forwards an image, a multiplication and
  an addition being two; stages of {widths} channels.
- **Training**: {epochs} epochs, {minutes:.1f} minutes of {device}, seed {seed};
  {recipe}.
- **Beside it**: the reference, which stands for the data where they can't be had: mean and
  covariance of the features of all {train:,} training images, and the features of the first
  {kept:,} images of either split.
- **Made by** `python book.py classifier DATA --name "{name}" --epochs {epochs} --seed {seed}`.
- **Limits**: it knows ten classes at 32×32 pixels, and was trained to tell them apart. So classes
  are what its features tell most of: of their variance, {on_train:.0%} lies between the classes'
  means on the kept images to train on, {on_test:.0%} on those to test. That these differ is what
  the network remembers, a part of any distance to the training set: look at the test set's own,
  too.
"""


def write(folder, network, recipe, name, data, test, log, seed):
    """The weights, their card and the reference, all of the weights as they are in the file."""
    path, device = folder / "classifier.safetensors", next(network.parameters()).device
    keep(path, network, recipe, name)
    network = load(path, device)
    scores = {"accuracy": accuracy(network, *test), "mirrored": accuracy(network, *test, True)}
    keep(path, network, recipe, name, **scores)
    with safe_open(path, framework="numpy") as file:
        tied = {"data": name, "classifier": file.metadata()["sha256"]}
    kept = reference(network, data, test)
    (folder / "reference.safetensors").write_bytes(save(kept, tied))
    gpu, config, rest = device.type == "cuda", network.config, asdict(recipe)
    card = CARD.format(
        name=name, train=len(data[0]), test=len(test[0]), **scores, features=config.features,
        parameters=parameters(network), gflop=flop(network) / 1e9, seed=seed, kept=KEPT,
        on_train=between(kept["train"], kept["train_labels"]),
        on_test=between(kept["test"], kept["test_labels"]),
        widths=", ".join(map(str, config.widths)), epochs=rest.pop("epochs"),
        minutes=log[-1]["seconds" if gpu else "cpu_seconds"] / 60,
        device=torch.cuda.get_device_name(device) if gpu else "CPU time",
        recipe=", ".join(f"{key} {value}" for key, value in rest.items()))
    (folder / "classifier.md").write_text(card, encoding="utf-8")
    print(f"{card}\nAll is in {folder}", flush=True)


def between(seen, labels):
    """The share of the variance of features (n, d), all in all, that the classes' means have."""
    seen, each = seen.astype(float) - seen.mean(axis=0, dtype=float), np.empty(seen.shape)
    for label in np.unique(labels):
        each[labels == label] = seen[labels == label].mean(axis=0)
    return (each**2).sum() / (seen**2).sum()


def flop(network):
    """Floating-point operations of one image's logits: those of convolutions and products."""
    x = torch.zeros(1, 3, 32, 32, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    return counter.get_total_flops()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
