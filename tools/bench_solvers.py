"""What a solver asks of the network: evaluations until its points are as good as can be.

Good is an energy distance from true points that is above that of the finest solver's points, from
the same noise, by no more than 5 % of the floor. With the exact score no solver's own distance can
serve, for the finest has none: there the floor is what two honest samples of 200 points show by
luck. With a learned score it is the finest solver's distance, which the network owes and no solver
can mend; it was trained for a short while, so that it stands clear of luck. To tell 5 % of either,
all distances are of many more points; how well they are told stands beside them. Steps are even in
log-SNR, from sigma/alpha 80 to one over their number. Nothing is timed, and the seeds are fixed:
the table is the same everywhere, but for rounding. Takes about four minutes.
"""

import numpy as np

from bench import Row
from minidiff.data import eight_gaussians, two_moons
from minidiff.denoise import denoiser
from minidiff.metrics import energy_distance, energy_floor
from minidiff.mlp import MLP, train
from minidiff.sampler import ddim, ddpm, dpmpp_2m, heun, last, sde
from minidiff.schedule import cosine, karras

CLOUDS = {"eight Gaussians": eight_gaussians(), "two moons": two_moons(per_moon=24)}
SOLVERS = {"DDIM": ddim, "Heun": heun, "DPM-Solver++(2M)": dpmpp_2m, "DDPM": ddpm,
           "reverse SDE": sde}
DRAWS = (ddpm, sde)  # they draw noise
LADDER = (5, 7, 9, 11, 15, 21, 31, 43, 61, 87, 123, 175, 247)  # odd, for Heun's last step asks once
JUDGE, SHARE = 200, 0.05


def rows(rounds, ladder=LADDER, n=4000, repeats=4, steps=400, finest=383):
    """The least evaluations of a ladder, of each solver on each cloud, with either score."""
    for name, cloud in CLOUDS.items():
        luck = energy_floor(cloud.sample, JUDGE, np.random.default_rng(1), 400)
        for score, model in (("exact", cloud.denoiser), ("learned", learned(cloud, steps))):
            what = f"{name}, {score} score"
            draws = [drawn(cloud, n, seed) for seed in range(repeats)]
            best = distances(heun, finest, model, draws)
            floor = luck if score == "exact" else float(best.mean())
            yield Row(what, "the floor", floor, "", note=f"two samples of {JUDGE}" if score ==
                      "exact" else f"Heun's points, {finest} evaluations")
            for who, solver in SOLVERS.items():
                yield reached(what, who, solver, model, draws, best, floor, ladder)


def learned(cloud, steps):
    """A network trained on the cloud, as a function schedule -> denoiser."""
    rng = np.random.default_rng(0)
    network = MLP(rng)
    for _ in train(network, cloud.sample, cosine(1000), rng, steps):
        pass
    return lambda table: denoiser(network, table, "v")


def drawn(cloud, n, seed):
    """Noise to begin with, and true points to be compared with."""
    rng = np.random.default_rng([2, seed])
    return rng.standard_normal((n, 2)), cloud.sample(n, rng)


def distances(solver, evaluations, model, draws):
    """The energy distance from true points of what a solver makes of each noise."""
    steps = (evaluations + 1) // 2 if solver is heun else evaluations
    table = karras(steps, 1 / steps, 80, np.inf).rescaled("vp")
    rng = [np.random.default_rng(3)] if solver in DRAWS else []
    return np.array([energy_distance(last(solver(model(table), table, noise, *rng)), truth)
                     for noise, truth in draws])


def reached(what, who, solver, model, draws, best, floor, ladder):
    """The row of the first rung that is good, found by halves: more evaluations are no worse."""
    low, high, found = 0, len(ladder), None
    while low < high:
        middle = (low + high) // 2
        above = (distances(solver, ladder[middle], model, draws) - best) / floor
        if above.mean() <= SHARE:
            high, found = middle, above
        else:
            low = middle + 1
    above = above if found is None else found  # of the last rung, or of the first that is good
    note = (f"{above.mean():.1%} ± {above.std(ddof=1) / len(above) ** 0.5:.1%} of the floor above "
            "the finest")
    if found is None:
        return Row(what, who, np.nan, "evaluations", note=f"more than {ladder[-1]}: there {note}")
    return Row(what, who, float(ladder[high]), "evaluations", note=note)
