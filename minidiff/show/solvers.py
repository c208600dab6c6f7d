"""Three solvers of one equation at the same price: their paths, and how far off they end."""

import numpy as np

from minidiff.data import two_moons
from minidiff.sampler import ddim, dpmpp_2m, heun
from minidiff.schedule import Schedule, karras
from minidiff.show.controls import Choice, Slider
from minidiff.show.explorable import Explorable
from minidiff.show.picture import Picture
from minidiff.show.style import DATA, GROUPS, blank, look, place

CLOUD = two_moons(per_moon=20)
SOLVERS = {"DDIM": (ddim, GROUPS[2]), "Heun": (heun, GROUPS[3]),
           "DPM-Solver++(2M)": (dpmpp_2m, GROUPS[5])}
SPACINGS = {"even in t": None, "even in log SNR": np.inf, "Karras": 7.0}  # rho of the last two
NOISIEST = 80.0  # sigma/alpha in the last row of every table: one start serves all of them
POINTS, PATHS = 120, 9
BEYOND = (31, 47, 63, 95)  # evaluations where curves go on, right of the slider's end


def steps_for(solver, nfe):
    """How many steps an odd number of evaluations pays for: Heun's take two each, but the last."""
    return (nfe + 1) // 2 if solver == "Heun" else nfe


def table(spacing, steps):
    """A variance-preserving table of so many steps from sigma/alpha = NOISIEST.

    Its least noise is 1/steps (even in t: π/2 of that). The step from there to row 0 is Euler's in
    every solver, and misses by its square; were it fixed, no number of steps could mend that.
    """
    if spacing == "even in t":  # of the cosine schedule
        angle = np.linspace(0, np.arctan(NOISIEST), steps + 1)
        return Schedule(np.cos(angle), np.sin(angle))
    return karras(steps, 1 / steps, NOISIEST, SPACINGS[spacing]).rescaled("vp")


def path(solver, rows, start):
    """Where points (n, 2) go on these rows, T to 0: (T+1, n, 2)."""
    return np.array([x for _, x in SOLVERS[solver][0](CLOUD.denoiser(rows), rows, start)])


def exact(start, steps=600):
    """The paths of the equation itself, to 2e-5: so many of Heun's steps, the last one tiny."""
    return path("Heun", karras(steps, 1e-3, NOISIEST, np.inf).rescaled("vp"), start)


def component(x):
    """The likeliest component of ends (n, 2), numbered along one moon and then the other: (n,)."""
    return CLOUD.responsibilities(x).argmax(axis=1)


def moon(x):
    """On which moon, 0 or 1, each end (n, 2) lies: (n,)."""
    return component(x) // (len(CLOUD.means) // 2)


def spread(ends):
    """Which of the points to draw: PATHS of them, whose ends (n, 2) spread along both moons."""
    along = np.argsort(component(ends), kind="stable")
    return along[((np.arange(PATHS) + 0.5) / PATHS * len(along)).astype(int)]


@look()
def solvers(seed=0):
    """Move the number of evaluations: three solvers walk from the same noise to two moons.

    The denoiser is the oracle, so nothing but the solver errs. The numbers: steps, that the
    evaluations pay for; error, the distance between where a point ends and where it should, the
    median of 120 (the few that start near a watershed would rule the mean); error_ddim, that of
    DDIM for as many evaluations; and wrong, the share of points on the wrong moon.
    """
    slider = Slider("evaluations", 3, 23, 2, 7, stride=4)
    start = np.random.default_rng(seed).standard_normal((POINTS, 2))
    true = exact(start)
    few = spread(true[-1])
    nfes = (*range(slider.min, slider.max + 1, slider.step), *BEYOND)
    paths, errors, wrong = {}, {}, {}
    for spacing in SPACINGS:
        for solver in SOLVERS:
            for nfe in nfes:
                x = path(solver, table(spacing, steps_for(solver, nfe)), start)
                key = solver, spacing, nfe
                paths[key] = x[:, few]
                errors[key] = np.median(np.linalg.norm(x[-1] - true[-1], axis=1)).item()
                wrong[key] = (moon(x[-1]) != moon(true[-1])).mean().item()

    figure = blank(8.6, 3.6)
    plane = place(figure, 0.6, 0.6, 3.5, 2.6, xlim=(-2.8, 2.8), ylim=(-2.08, 2.08))
    plane.set(title="nine paths, the exact ones in grey", xlabel="$x_1$", ylabel="$x_2$",
              xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    tints = np.array(GROUPS)[moon(true[-1, few])]  # by where they should end
    grid = np.linspace(-2.8, 2.8, 113)
    height = CLOUD.log_prob(np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2))
    plane.contourf(grid, grid, height.reshape(113, 113), height.max() + [-2, 1], colors=["0.9"])
    plane.plot(*true[:, few].transpose(2, 0, 1), color="0.7", linewidth=4)
    plane.scatter(*true[-1, few].T, s=90, facecolor="none", edgecolor=tints, linewidth=2)
    lines = [plane.plot([], [], "o-", color=tint, linewidth=1.5, markersize=3, antialiased=False,
                        animated=True)[0] for tint in tints]
    misses, = plane.plot([], [], color=DATA, linewidth=1, antialiased=False, animated=True)
    ends = plane.scatter(*np.zeros((2, PATHS)), s=36, facecolor=tints, edgecolor=DATA,
                         linewidth=1, zorder=4, animated=True)

    side = place(figure, 4.95, 0.6, 3.4, 2.6, xlim=(2.7, 110), ylim=(2e-4, 1.5),
                 xscale="log", yscale="log")
    ticks = (3, 5, 10, 20, 50, 100)
    side.set(title="error at the end (median)", xlabel="evaluations of the network")
    side.set_xticks(ticks, ticks)
    side.minorticks_off()
    for order in (1, 2):
        side.plot([25, 57], [1.2, 1.2 * (25 / 57) ** order], "--", color="0.6", linewidth=1)
        side.text(60, 1.2 * (25 / 57) ** order, f"order {order}", color="0.4", va="center")
    for row, (solver, (_, colour)) in enumerate(SOLVERS.items()):
        side.text(0.03, 0.23 - 0.09 * row, solver, color=colour, transform=side.transAxes)
    curves = {solver: side.plot([], [], color=colour, animated=True)[0]
              for solver, (_, colour) in SOLVERS.items()}
    dot, = side.plot([], [], "o", markersize=9, zorder=4, animated=True)

    def move(nfe, solver, spacing):
        x = paths[solver, spacing, nfe]
        for line, points in zip(lines, x.swapaxes(0, 1)):
            line.set_data(*points.T)
        gaps = np.stack([x[-1], true[-1, few], np.full((PATHS, 2), np.nan)], axis=1)
        misses.set_data(*gaps.reshape(-1, 2).T)
        ends.set_offsets(x[-1])
        for name, curve in curves.items():
            curve.set_data(nfes, [errors[name, spacing, n] for n in nfes])
            chosen = name == solver
            curve.set(linewidth=2.5 if chosen else 1, antialiased=chosen)
        error = errors[solver, spacing, nfe]
        dot.set(data=([nfe], [error]), color=SOLVERS[solver][1])
        return {"steps": len(x) - 1, "error": error, "error_ddim": errors["DDIM", spacing, nfe],
                "wrong": wrong[solver, spacing, nfe]}

    return Explorable(
        "solvers", Picture(figure, move),
        {"nfe": slider, "solver": Choice("solver", tuple(SOLVERS), "DDIM"),
         "spacing": Choice("spacing", tuple(SPACINGS), "even in log SNR")},
        readout="{nfe} evaluations, {steps} steps: error {error:.3f}, and DDIM's at this price "
                "{error_ddim:.3f}; {wrong:.0%} of the points end on the wrong moon",
        alt="Nine paths from noise to two moons beside the exact ones: DDIM's leave them and end "
            "short, those of DPM-Solver++ soon cover them; against evaluations DDIM's error falls "
            "in proportion, the others' with the square.",
        film=[(label, plane, {"solver": solver})
              for label, solver in zip(("DDIM", "Heun", "DPM++ 2M"), SOLVERS)], cuts=(430,))
