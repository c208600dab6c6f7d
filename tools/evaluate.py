"""Score what a run has trained: how far its images are from real ones, and how far real ones are.

    python book.py evaluate runs/cifar10-fast --n 5000
    python book.py evaluate runs/cifar10-fast --all     every look of it, into RUN/scores.jsonl
    python book.py evaluate runs/cifar10-fast --n 50000 --inception inception.safetensors    FID

Image i is made from the noise of seed + i alone, of label i modulo the classes. The floor is what
test images score in the samples' place; yardsticks are test images with noise, or blurred. The
features are the book's classifier's, on which distances are no FID. Where CIFAR-10 can't be had,
the book's reference file stands in: moments and features, but no images, so no yardsticks.

FID wants Inception's weights as safetensors: they are published as a pickle and as a program, and
this opens neither. `--inception help` says how to turn the first around.
"""

import argparse
import hashlib
import json
import re
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tqdm.auto import tqdm

from minidiff.errors import require
from minidiff.evaluate import PAIRS, Judge, Reference, beside, judged, measured
from minidiff.nn import checkpoint
from minidiff.trained import CHECKPOINT, SOLVERS, load, pixels, samples
from classifier import data
from files import write_whole
from sample import available

WEIGHTS = Path(__file__).resolve().parent.parent / "chapters" / "weights"
CLASSIFIER = WEIGHTS / "cifar10-classifier.safetensors"
REFERENCE = WEIGHTS / "cifar10-reference.safetensors"
RECORD = "scores.jsonl"
COLUMNS = ("frechet", "kernel", "energy", "precision", "recall", "density", "coverage",
           "two_sample", "agreement")
PUBLISHED = 50_000  # samples, and training images, of a published FID on CIFAR-10
PTH = "pt_inception-2015-12-05-6726825d.pth"
PACKAGE = ".venv/bin/python -m pip install -c pins.txt pytorch-fid==0.3.0"
HELP = f"""--inception must be the .safetensors file of weights that published FIDs use; got {{}}.
Download {PTH} from github.com/mseitzer/pytorch-fid/releases.
Its SHA-256 begins with 6726825d. Turn it around, once; PyTorch 2.6 or newer reads only tensors so:
    .venv/bin/python -c "import torch, safetensors.torch as s; s.save_file(torch.load(
        '{PTH}', weights_only=True), 'inception.safetensors')"
The network itself comes with a package: {PACKAGE}"""


def main(arguments):
    """Evaluate; returns what `sys.exit` takes: a status, or a sentence on what went wrong."""
    options = parsed(arguments)
    try:
        device, files = available(options.device), asked_for(options)
        judge = (inception if options.inception else classified)(options, device)
        trial(files[0], judge, options, device)
        reference, test, mark = referenced(options, judge)
        protocol = {"data": reference.name, "reference": reference.n, "digest": mark,
                    "features": judge.name, "n": options.n, "pairs": PAIRS, "seed": options.seed,
                    "solver": options.solver, "steps": options.steps, "w": options.w}
        lines = evaluated(files, protocol, judge, reference, test, options, device)
    except torch.OutOfMemoryError:
        return f"Too little memory for --batch {options.batch}: try {options.batch // 2 or 1}."
    except (ValueError, OSError) as error:
        return str(error)
    proper = bool(options.inception) and options.n == reference.n == PUBLISHED
    print(f"\n{said(lines[-1], proper)}\n\n{table(lines, proper)}")
    return 0


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a training, or a file of weights")
    parser.add_argument("--data", default="cifar10",
                        help="cifar10, the default; shapes; where CIFAR-10 is; a reference file")
    parser.add_argument("--name", help="of the data in what is written, by default as given")
    parser.add_argument("--n", type=int, default=5000, help="samples, by default 5000")
    parser.add_argument("--solver", choices=SOLVERS, default="dpmpp_2m", help="by default dpmpp_2m")
    parser.add_argument("--steps", type=int, default=18, help="by default 18")
    parser.add_argument("--w", type=float, default=1.0, help="guidance; 1, the default, is none")
    parser.add_argument("--seed", type=int, default=0, help="of the first image")
    parser.add_argument("--batch", type=int, default=256, help="images at a time, for the memory")
    parser.add_argument("--device", help="by default the best there is: cuda, mps or cpu")
    parser.add_argument("--all", action="store_true",
                        help=f"all weights-<images>.safetensors of the folder, into its {RECORD}")
    parser.add_argument("--classifier", type=Path, default=CLASSIFIER, help="its weights")
    parser.add_argument("--inception", type=Path, help="its weights, for FID")
    return parser.parse_args(arguments)


def asked_for(options):
    """The files of weights, the earliest first."""
    require(options.n >= 10, "--n", ">= 10", options.n)
    require(0 <= options.seed <= 2**32 - options.n, "--seed", f"in 0..2³² - {options.n}",
            options.seed)
    if not options.all:
        return [options.run if options.run.is_file() else options.run / CHECKPOINT]
    files = {int(found[1]): path for path in options.run.glob("weights-*.safetensors")
             if (found := re.fullmatch(r"weights-(\d+)", path.stem))}
    require(files, "run", "a folder with weights-<images>.safetensors, for --all", str(options.run))
    return [files[images] for images in sorted(files)]


def trial(path, judge, options, device):
    """An image made and judged, so that what can't be done is refused before the long work."""
    image = samples(*load(path, device), 1, options.steps, options.seed, None, options.solver,
                    options.w, options.batch)
    judge.features(pixels(image).transpose(0, 3, 1, 2))


def classified(options, device):
    """The book's classifier."""
    from minidiff import classifier

    path = options.classifier
    require(path.is_file(), "--classifier", "the file of a classifier's weights", str(path))
    network = classifier.load(path, device)
    with safe_open(path, framework="np") as file:
        name = f"{path.name}, SHA-256 {file.metadata()['sha256'][:12]}"  # as references have it
    return Judge(name, partial(classifier.features, network, batch=options.batch),
                 partial(classifier.predict, network, batch=options.batch))


def inception(options, device):
    """Inception as pytorch-fid builds it, which resizes the images itself.

    Raises `ValueError` where it or its weights are missing, and says where they are to be had.
    """
    path = options.inception
    if not (path.is_file() and path.suffix == ".safetensors"):
        raise ValueError(HELP.format(path))
    try:
        from pytorch_fid import inception as port
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        raise ValueError(f"--inception wants a package that is no part of the book ({error}): "
                         f"{PACKAGE}") from error
    fetch = "load_state_dict_from_url"
    require(hasattr(port, fetch), "pytorch-fid", "version 0.3.0", "another")
    try:
        weights = load_file(path)
        setattr(port, fetch, lambda *_, **__: weights)  # it would download a pickle and open it
        network = port.InceptionV3().to(device).eval()
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(HELP.format(f"{path}, in which: {str(error)[:200]}")) from error

    @torch.no_grad()
    def features(images):
        require(images.shape[1] == 3, "images", "in colours, (n, 3, H, W)", images.shape)
        parts = torch.from_numpy(images).split(options.batch)
        return np.concatenate([network(part.to(device) / 255)[0].flatten(1).cpu().numpy()
                               for part in parts])

    return Judge(f"Inception, {path.name}, {digest(path)}", features)


def digest(path):
    return f"SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def referenced(options, judge):
    """`(reference, (images, labels) of test or None, digest)` of the data asked for."""
    name = options.data
    if name.endswith(".safetensors"):
        return stored(Path(name), judge)
    try:
        (train, _), test = data(name)
    except ConnectionError as error:
        if name != "cifar10" or options.inception or not REFERENCE.is_file():
            raise
        print(f"{error}\nSo {REFERENCE} stands in.")
        return stored(REFERENCE, judge)
    print(f"{name}: looking at {len(train):,} training and {len(test[0]):,} test images")
    reference = measured(f"{options.name or Path(name).name} (train)", judge.features(train), judge.features(test[0]))
    return reference, test, f"CRC {zlib.crc32(np.ascontiguousarray(train)):08x}"


def stored(path, judge):
    """As `referenced`, of a file that `book.py classifier` wrote: without images."""
    require(path.is_file(), "--data", "a reference file that is there", str(path))
    try:
        with safe_open(path, framework="np") as file:
            name, tied = (file.metadata()[key] for key in ("data", "classifier"))
            count, *arrays = (file.get_tensor(key).astype(np.float64)
                              for key in ("count", "mean", "cov", "train", "test"))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"--data must be a classifier's reference; got {path}: {error}") from error
    require(f"SHA-256 {tied[:12]}" in judge.name, f"--data {path}",
            f"of the features of {judge.name}", tied)
    return Reference(name, int(count.item()), *arrays), None, digest(path)


def evaluated(files, protocol, judge, reference, test, options, device):
    """A line for each file. Those that the folder's record has, by this protocol, are kept."""
    record = options.run / RECORD
    lines, wanted = read(record) if options.all else [], []
    known = {(line["images"], line["minutes"]): line for line in lines
             if line["protocol"] == protocol}
    real = next(iter(known.values()), None) or beside(judge, reference, options.n, test)
    for path in files:
        step, state = checkpoint.about(path)
        network, recipe = load(path, device)
        images, minutes = key = step * recipe.batch, round(state["seconds"] / 60, 2)
        if key not in known:
            made, labels, evaluations = drawn(network, recipe, options)
            known[key] = {
                "images": images, "minutes": minutes, "n": options.n,
                **judged(judge, reference, made, labels), "evaluations": evaluations,
                "half_life": min(recipe.half_life, 0.05 * images),  # as the EMA has it
                "batch": recipe.batch, "classes": recipe.network.classes,
                **{name: real[name] for name in ("floor", "spread", "yardsticks")},
                "protocol": protocol}
            if options.all:
                lines.append(known[key])
                write_whole(record, "".join(json.dumps(line) + "\n" for line in lines))
        wanted.append(known[key])
    return wanted


def drawn(network, recipe, options):
    """`(images (n, C, H, W) uint8, labels or None, evaluations an image)`; floats only by batch."""
    config, n, calls = recipe.network, options.n, []
    labels = np.arange(n) % config.classes if config.classes else None
    made = np.empty((n, config.channels, config.size, config.size), np.uint8)
    starts = range(0, n, options.batch)
    hook = network.register_forward_pre_hook(lambda *_: calls.append(1))
    for i in tqdm(starts, unit="batch", mininterval=0.5 if sys.stderr.isatty() else 30):
        count = min(options.batch, n - i)
        names = None if labels is None else labels[i:i + count]
        batch = samples(network, recipe, count, options.steps, options.seed + i, names,
                        options.solver, options.w, options.batch)
        made[i:i + count] = pixels(batch).transpose(0, 3, 1, 2)
    hook.remove()
    return made, labels, len(calls) // len(starts)


def read(path):
    """The record's lines, without one that was cut off. Raises `ValueError` for other damage."""
    lines, found = path.read_text("utf-8").splitlines() if path.exists() else [], []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            require(number == len(lines), f"{path}, line {number}", "a line of scores", line)
    return found


def said(line, proper):
    """What the scores are of, in words."""
    told, floor = line["protocol"], line["floor"]
    n, m = told["n"], min(told["n"], told["pairs"])
    decay = 0.5 ** (line["batch"] / line["half_life"])
    return f"""\
samples     n = {n:,}, seeds {told['seed']}..{told['seed'] + n - 1}, \
{'labels in turn' if line['classes'] else 'no labels'}; by {told['solver']}, \
{told['steps']} steps, {line['evaluations']} evaluations an image, w = {told['w']:g}
weights     EMA of half-life {line['half_life']:,.0f} images: a decay of {decay:.6f} a step of \
{line['batch']}
features    {told['features']}{'' if proper else '; no score here is an FID as published'}
reference   {told['data']}, n = {told['reference']:,}, {told['digest']}: frechet is to its \
moments, other scores to {m:,} of it from {m:,} samples
floor       test images in the samples' place, n = {floor['n']:,}, draws: {floor['draws']}
yardsticks  {'test images, noise in grey levels, blur in pixels' if line['yardsticks'] else
             'none, as there are no images'}"""


def table(lines, proper):
    """The scores of each look; below them the floor, its standard deviation and the yardsticks."""
    rows = {f"{line['images']:,} images, {line['minutes']:.1f} min": line for line in lines}
    rows |= {"floor": lines[-1]["floor"], "  its spread": lines[-1]["spread"]}
    rows |= lines[-1]["yardsticks"]
    head = ["FID" if proper and name == "frechet" else name for name in COLUMNS]
    width = max(map(len, rows))
    return "\n".join([" " * width + "".join(f"{name:>11}" for name in head)] + [
        f"{label:<{width}}" + "".join(
            f"{'-' if row.get(name) is None else format(row[name], '.4g'):>11}" for name in COLUMNS)
        for label, row in rows.items()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
