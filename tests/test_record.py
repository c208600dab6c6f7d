"""The record's stages: each is a command that its tool understands, done once, and then put where
the chapters look."""

import dataclasses
import json
import sys
import time

import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
import classifier  # noqa: E402
import evaluate  # noqa: E402
import neighbours  # noqa: E402
import quality  # noqa: E402
import record  # noqa: E402
import switches  # noqa: E402
import train  # noqa: E402

from minidiff.nn import EMA, UNet  # noqa: E402
from minidiff.recipes import SMALL  # noqa: E402
from minidiff.trained import keep_weights, load  # noqa: E402

STAGES = ("classifier", "train", "evaluate", "quality", "neighbours", "switches")
SCORES = {"frechet": 12.345, "precision": 0.5, "recall": 0.25, "agreement": 0.75, "minutes": 88.4,
          "images": 288_000, "batch": 64, "evaluations": 18, "half_life": 14_000.0,
          "floor": {"n": 1000, "frechet": 1.5},
          "protocol": {"n": 1000, "solver": "dpmpp_2m", "steps": 18, "w": 1.0, "seed": 0}}


def words(tmp_path, *more):
    return ["there", "--recipe", "small", "--device", "cpu", "--name", "CIFAR-10, a copy", "--runs",
            str(tmp_path / "runs"), *more]


def leave(run, judge):
    """What the stages leave in their folders, which weigh nothing here but the weights."""
    for folder in (run, judge):
        folder.mkdir(parents=True, exist_ok=True)
    network = UNet(SMALL.network)
    ema = EMA(network, SMALL.half_life)
    ema.seen = 288_000
    state = {"run": dataclasses.asdict(SMALL) | {"seed": 0}, "seconds": 5304.0}
    keep_weights(run / "weights-288000.safetensors", 4500, state, ema)
    (run / "scores.jsonl").write_text("".join(
        json.dumps({**SCORES, **more}) + "\n" for more in ({"images": 64, "frechet": 99.0}, {})))
    for name in ("log.jsonl", "samples-64.png", "samples-288000.png", "quality.csv",
                 "neighbours.csv", "neighbours.png", "switches.csv"):
        (run / name).write_text(name)
    for name in ("log.jsonl", "classifier.safetensors", "classifier.md", "reference.safetensors"):
        (judge / name).write_text(f"judge's {name}")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """What was called, in a book whose chapters lie in tmp_path; the first call does the work."""
    called = []

    def within(end, command):
        called.append(command)
        leave(tmp_path / "runs" / "cifar10-small", tmp_path / "runs" / "cifar10-classifier")
        return 0

    monkeypatch.setattr(record, "CHAPTERS", tmp_path / "chapters")
    monkeypatch.setattr(record, "path_for", lambda device: tmp_path / f"switches-{device}.csv")
    monkeypatch.setattr(record, "within", within)
    return called


def test_every_stage_is_a_command_that_its_tool_understands(commands, tmp_path):
    assert record.main(words(tmp_path, "--n", "30", "--points", "20", "--epochs", "2", "--look",
                             "700")) == 0
    assert [command[1] for command in commands] == [
        str(record.TOOLS / f"{name}.py") for name in STAGES]
    assert {command[0] for command in commands} == {sys.executable}
    asked = dict(zip(STAGES, [tool.parsed(command[2:]) for tool, command in zip(
        (classifier, train, evaluate, quality, neighbours, switches), commands, strict=True)]))
    assert {str(options.device) for options in asked.values()} == {"cpu"}
    runs = tmp_path / "runs"
    judge = runs / "cifar10-classifier" / "classifier.safetensors"
    assert asked["classifier"].folder == str(judge.parent) and asked["classifier"].epochs == 2
    assert asked["classifier"].name == asked["evaluate"].name == "CIFAR-10, a copy"
    assert asked["train"].folder == str(runs / "cifar10-small") and asked["train"].look == 700
    assert asked["evaluate"].run == runs / "cifar10-small" and asked["evaluate"].all
    assert (asked["evaluate"].n, asked["quality"].n) == (30, 20)
    for name in ("quality", "neighbours"):
        assert asked[name].weights == runs / "cifar10-small" / "weights-288000.safetensors"
    for name in ("evaluate", "quality", "neighbours"):
        assert asked[name].classifier == judge and asked[name].data == "there"


def test_what_is_done_is_not_done_again_and_what_is_cut_off_goes_on(commands, tmp_path, monkeypatch):
    whole = record.within
    for status, said in ((None, 0), (3, "The training ended with status 3; the same command goes")):
        commands.clear()
        monkeypatch.setattr(record, "within", lambda end, command: status if (
            "train.py" in command[1]) else whole(end, command))
        ended = record.main(words(tmp_path))
        assert ended == said or ended.startswith(said)
        assert len(commands) == (1 if status is None else 0)
        assert not (tmp_path / "chapters").exists()
    monkeypatch.setattr(record, "within", whole)
    assert record.main(words(tmp_path)) == 0 and len(commands) == 5
    assert record.main(words(tmp_path)) == 0 and len(commands) == 5
    assert record.main(words(tmp_path, "--points", "7")) == 0
    assert [command[1] for command in commands[5:]] == [str(record.TOOLS / "quality.py")]


def test_a_command_is_stopped_when_its_time_is_over(tmp_path):
    """It may save before it goes: within a second of 60, or the machine is stuck."""
    program = ("import pathlib, signal, sys, time\n"
               "def stop(*_): pathlib.Path(sys.argv[1]).write_text('saved'); sys.exit(1)\n"
               "signal.signal(signal.SIGTERM, stop)\npathlib.Path(sys.argv[2]).touch()\n"
               "time.sleep(60)")
    assert record.within(time.monotonic() + 3, [
        sys.executable, "-c", program, str(tmp_path / "a"), str(tmp_path / "b")]) is None
    assert not (tmp_path / "b").exists() or (tmp_path / "a").read_text() == "saved"
    assert record.within(None, [sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_all_is_put_where_the_chapters_look(commands, tmp_path):
    record.main(words(tmp_path))
    chapters, run = tmp_path / "chapters", tmp_path / "runs" / "cifar10-small"
    own = chapters / "records" / "cifar10-small"
    assert {path.name for path in own.iterdir()} == {
        "log.jsonl", "scores.jsonl", "samples-64.png", "samples-288000.png"}
    assert {path.name for path in (chapters / "records").iterdir()} == {
        "cifar10-small", "quality.csv", "neighbours.csv", "neighbours.png", "classifier.jsonl"}
    assert (chapters / "records" / "classifier.jsonl").read_text() == "judge's log.jsonl"
    assert (tmp_path / "switches-cpu.csv").read_text() == "switches.csv"
    assert {path.name for path in (chapters / "weights").iterdir()} == {
        "cifar10-small.safetensors", "cifar10-small.md", "cifar10-classifier.safetensors",
        "cifar10-classifier.md", "cifar10-reference.safetensors"}
    assert load(chapters / "weights" / "cifar10-small.safetensors")[1] == SMALL
    card = (chapters / "weights" / "cifar10-small.md").read_text("utf-8")
    for words_of_it in ("CIFAR-10, a copy", "`small`, 2,737,507 parameters", "4,500 steps of 64",
                        "88 minutes", "distance of 12.3 on", "have 1.5;", "n = 1,000 samples by dpmpp_2m",
                        "75%", "None of these is an FID"):
        assert words_of_it in card, words_of_it


def test_weights_that_weigh_too_much_stay_where_they_are(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "LARGEST", 1000)
    record.main(words(tmp_path))
    assert not list((tmp_path / "chapters" / "weights").glob("cifar10-small*"))
