"""Which test notices which mistake? A script to run by hand, for some modules or for all:

    python tests/mutations.py sampler > tests/mutations.txt

It plants one small mistake after the other into a copy of the package: a sign, a factor, an index, a
root, a comparison, a condition. Each time it runs the module's tests and prints which of them fails
first. A mistake that none of them notices is printed as SURVIVED, or with the reason why it is none.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = {  # module -> the test files that answer for it
    "sampler": ("test_sampler.py", "test_backends.py"),
    "likelihood": ("test_likelihood.py",),
    "rosetta": ("test_rosetta.py",),
}
SWAPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
         ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
         ast.Eq: ast.NotEq, ast.And: ast.Or, ast.Or: ast.And}
HARMLESS = {  # a changed line -> why nothing can notice
    "total = total + _dot(_difference(denoise, x, t, step / z), z) / step": "z is a sign: 1/z = z",
}


def mutants(source):
    """`(old line, new line, new source)` of every small mistake."""
    for index, _ in enumerate(ast.walk(ast.parse(source))):
        for choice in range(3):
            tree = ast.parse(source)
            node = list(ast.walk(tree))[index]
            before = ast.unparse(tree).splitlines()
            if not change(node, choice):
                break
            after = ast.unparse(tree).splitlines()
            i = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), None)
            if i is not None:
                yield before[i].strip(), after[i].strip(), "\n".join(after)


def change(node, choice):
    """Make mistake number `choice` at this node, in place; False where there are no more."""
    options = []
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        options.append(lambda: setattr(node, "op", SWAPS[type(node.op)]()))
    if isinstance(node, ast.Compare):
        options += [lambda i=i: node.ops.__setitem__(i, SWAPS[type(node.ops[i])]())
                    for i in range(len(node.ops)) if type(node.ops[i]) in SWAPS]
    if isinstance(node, ast.BoolOp):
        options.append(lambda: setattr(node, "op", SWAPS[type(node.op)]()))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        options.append(lambda: setattr(node, "op", ast.UAdd()))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        options.append(lambda: setattr(node, "value", node.value + 1))
        if node.value:
            options.append(lambda: setattr(node, "value", node.value - 1))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.sqrt", "np.diff", "np.maximum"):
        options.append(lambda: node.__dict__.update(  # the root of x, without the root
            func=ast.parse("(lambda x, *_: x)", mode="eval").body))
    if choice >= len(options):
        return False
    options[choice]()
    return True


def killer(module, source):
    """The first test that fails on the changed module, or None."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "minidiff", Path(folder, "minidiff"))
        shutil.copytree(ROOT / "tests", Path(folder, "tests"))
        shutil.copytree(ROOT / "tools", Path(folder, "tools"))
        shutil.copy(ROOT / "book.toml", folder)
        shutil.copy(ROOT / "pyproject.toml", folder)
        Path(folder, "minidiff", f"{module}.py").write_text(source, encoding="utf-8")
        for file in TESTS[module]:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{file}"],
                cwd=folder, text=True, env={**os.environ, "PYTHONPATH": folder}, capture_output=True)
            if done.returncode:
                failed = re.search(r"^FAILED \S*?::(\w+)", done.stdout, re.M)
                return failed[1] if failed else "nothing runs"
    return None


def main(module):
    """Print the fate of every mistake in this module; how many went unnoticed."""
    path = ROOT / "minidiff" / f"{module}.py"
    assert killer(module, ast.unparse(ast.parse(path.read_text("utf-8")))) is None, "tests fail as it is"
    survivors = count = 0
    for old, new, source in mutants(path.read_text("utf-8")):
        count += 1
        name = killer(module, source)
        survivors += name is None and new not in HARMLESS
        verdict = name or HARMLESS.get(new, "SURVIVED")
        print(f"- {old}\n+ {new}\n  {verdict}\n", flush=True)
    print(f"{module}: {count} mistakes, {survivors} unnoticed\n")
    return survivors


if __name__ == "__main__":
    sys.exit(sum(main(module) for module in sys.argv[1:] or TESTS) > 0)
