"""The book's own record: train, judge and measure on this machine, and put it where chapters look.

    python book.py record cifar10 [--recipe fast] [--minutes 9]

First comes the classifier that judges, then the recipe's training, the scores of all its looks, its
samples by several solvers, their neighbours among the training images, and the worth of each
switch. What is done is kept and what is cut off goes on: the same command again does what is left,
also where `--minutes` has ended it. On an H200-class GPU half an hour is meant to do for `fast`; on
one CPU core `--recipe small --n 1000 --points 500 --epochs 12` takes three hours or so.

All lies in runs/ until it is complete. Then chapters/records/cifar10-RECIPE/ gets the log, scores
and pictures, and chapters/weights/ the averaged weights of the end, with a card; those of more than
32 MB stay in runs/.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from minidiff.nn import checkpoint, parameters
from minidiff.trained import load
from switches import named, path_for
from train import RECIPES, RUNS

TOOLS = Path(__file__).resolve().parent
CHAPTERS = TOOLS.parent / "chapters"
LARGEST = 32_000_000  # bytes of weights that a clone of the book should carry
CARD = """# A diffusion model of {data}

- **For**: learning. It draws 32×32 pictures of CIFAR-10's ten classes, told which or not.
- **Data**: {data}; its 50,000 training images.
- **Training**: recipe `{recipe}`, {parameters:,} parameters; {steps:,} steps of {batch} images in
  {minutes:.0f} minutes of {device}, the looks at it included. The weights are the average of
  half-life {half_life:,.0f} images, in bf16.
- **Scores**: a Fréchet distance of {frechet:.3g} on the features of the book's own classifier, where
  as many test images have {floor:.2g}; precision {precision:.2f}, recall {recall:.2f}; the
  classifier sees the label in {agreement:.0%}. Of n = {n:,} samples by {solver}, {evaluations}
  evaluations an image, w = {w:g}, seeds from {seed}. **None of these is an FID**, and none can be
  set beside published ones.
- **Made by** `python book.py record DATA --recipe {recipe} --n {n}`.
- **Limits**: it was trained for minutes and not for days, and it shows. It knows ten classes, with
  the biases of CIFAR-10, and nothing else. What it draws is no photograph of anything.
"""


def main(arguments):
    """Do what is left; returns what `sys.exit` takes."""
    options = parsed(arguments)
    run, judge = options.runs / f"cifar10-{options.recipe}", options.runs / "cifar10-classifier"
    run.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes if options.minutes else None
    for what, command in stages(options, run, judge).items():
        if command in past(run):
            continue
        print(f"\n{what}: python {' '.join(command)}", flush=True)
        status = within(end, [sys.executable, str(TOOLS / command[0]), *command[1:]])
        if status is None:
            print("The time is over; the same command goes on.")
            return 0
        if status:
            return f"{what} ended with status {status}; the same command goes on from there."
        (run / "done.json").write_text(json.dumps([*past(run), command]), encoding="utf-8")
    publish(run, judge, options)
    return 0


def parsed(arguments):
    parser = argparse.ArgumentParser(
        prog="record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="cifar10, or where CIFAR-10 is")
    parser.add_argument("--name", default="CIFAR-10", help="of the data, in cards and captions")
    parser.add_argument("--recipe", choices=RECIPES, default="fast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--n", default="10000", help="samples that are scored at each look")
    parser.add_argument("--points", default="2000", help="samples for each solver and its steps")
    parser.add_argument("--epochs", default="40", help="of the classifier")
    parser.add_argument("--look", help="steps between two looks, by default a twentieth of all")
    parser.add_argument("--minutes", type=float, help="after which to stop, and go on another time")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where it lies until complete")
    return parser.parse_args(arguments)


def stages(options, run, judge):
    """{what: its command}, in order; each finds the work of those before it."""
    recipe, device = RECIPES[options.recipe], ["--device", options.device]
    weights = str(run / f"weights-{recipe.steps * recipe.batch}.safetensors")
    classifier = ["--classifier", str(judge / "classifier.safetensors"), *device]
    look = ["--look", options.look] if options.look else []
    return {
        "The classifier": ["classifier.py", options.data, "--name", options.name, "--epochs",
                           options.epochs, "--folder", str(judge), *device],
        "The training": ["train.py", options.data, "--recipe", options.recipe, "--folder",
                         str(run), *look, *device],
        "Scores": ["evaluate.py", str(run), "--all", "--data", options.data, "--name",
                   options.name, "--n", options.n, *classifier],
        "Solvers": ["quality.py", weights, options.data, "--n", options.points, "--out",
                    str(run / "quality.csv"), *classifier],
        "Neighbours": ["neighbours.py", weights, options.data, "--out", str(run), *classifier],
        "Switches": ["switches.py", "--recipe", options.recipe, "--out", str(run / "switches.csv"),
                     *device]}


def past(run):
    """The commands that have come to their end."""
    path = run / "done.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def within(end, command):
    """Run it; its status, or None where it was told to stop, as the time was over."""
    child = subprocess.Popen(command)
    try:
        return child.wait(end and max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        child.terminate()  # a training saves, and then goes
        child.wait()
        return None


def publish(run, judge, options):
    """Put all where the chapters look for it."""
    records, weights = CHAPTERS / "records", CHAPTERS / "weights"
    own = records / run.name
    for folder in (own, weights):
        folder.mkdir(parents=True, exist_ok=True)
    for path in [run / "log.jsonl", run / "scores.jsonl", *run.glob("samples-*.png")]:
        shutil.copy(path, own)
    for name in ("quality.csv", "neighbours.csv", "neighbours.png"):
        shutil.copy(run / name, records)
    shutil.copy(run / "switches.csv", path_for(torch.device(options.device)))
    shutil.copy(judge / "log.jsonl", records / "classifier.jsonl")
    for name in ("classifier.safetensors", "classifier.md", "reference.safetensors"):
        shutil.copy(judge / name, weights / f"cifar10-{name}")
    recipe = RECIPES[options.recipe]
    path = run / f"weights-{recipe.steps * recipe.batch}.safetensors"
    if path.stat().st_size <= LARGEST:
        shutil.copy(path, weights / f"{run.name}.safetensors")
        (weights / f"{run.name}.md").write_text(card(path, run, options), encoding="utf-8")
    print(f"All is in {own} and {weights}.")


def card(path, run, options):
    """What a stranger has to know of the weights."""
    (network, _), (step, state) = load(path), checkpoint.about(path)
    lines = map(json.loads, (run / "scores.jsonl").read_text("utf-8").splitlines())
    last = [line for line in lines if line["images"] == state["images"]][-1]
    return CARD.format(**{
        **last["protocol"], **last, "data": options.name, "recipe": options.recipe, "steps": step,
        "parameters": parameters(network), "floor": last["floor"]["frechet"],
        "device": machine(torch.device(options.device))})


def machine(device):
    """What the minutes were of."""
    threads = torch.get_num_threads()
    of = "" if device.type == "cuda" else f"{threads} thread{'s' * (threads > 1)} of "
    return of + named(device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
