"""What serve compiles before it is ready: what the first events, a catalogue that grows, and a tuned model need."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import numba, numpy as np
from consumer.embedding import Model
from consumer.warm import compile_kernels
from model import candidates, choosing, kernels, pairs, sparse_pairs
from model.fold import FoldSettings
from tests.consumer.test_serving import ENCODER, ITEMS, TAXONOMY
from tests.model.test_fold import clicks, run
from tests.model.test_learnt import TwoParts, adopt
from model.evaluate import prepare
from model.events import Search

def compiled():
    found = {}
    for module in (candidates, choosing, kernels, pairs, sparse_pairs):
        for name, value in vars(module).items():
            if isinstance(value, numba.core.registry.CPUDispatcher):
                found[module.__name__ + "." + name] = len(value.signatures)
    return found

compile_kernels(FoldSettings(), Model(ENCODER, TAXONOMY))
before = compiled()
many = [type(ITEMS[0])(item=f"i{n}", title=f"robot {n}", tags=["a", "b"]) for n in range(400)]
fold = prepare(many[:250], ENCODER, FoldSettings(whole=256))
run(fold, ENCODER, [*clicks(100), Search(id="s", user="u1", at_ms=200_000, text="alien")])
for item, vector in zip(many[250:], ENCODER.encode([item.content() for item in many[250:]]), strict=True):
    fold.put_item(item, vector)  # it grows past the limit
run(fold, ENCODER, [*clicks(100, 1), Search(id="t", user="u1", at_ms=400_000, text="alien robot")])
two = TwoParts(paired=True)
adopt(fold, many, two)  # a tuned model goes live
run(fold, two, [*clicks(50, 2), Search(id="v", user="u1", at_ms=500_000, text="alien ship")])
adopt(fold, many, ENCODER)
run(fold, ENCODER, [*clicks(50, 3), Search(id="w", user="u1", at_ms=600_000, text="alien moon")])
small = prepare(many[:250], ENCODER, FoldSettings(whole=256))
adopt(small, many[:250], two)
run(small, two, [*clicks(50), Search(id="x", user="u1", at_ms=200_000, text="alien")])
after = compiled()
later = {name: (before[name], after[name]) for name in after if after[name] != before[name]}
assert before["model.kernels.feature_matrix"] == 1
assert before["model.sparse_pairs._move"] == 1
print(later)
"""


def test_nothing_is_compiled_in_the_middle_of_the_stream() -> None:
    """In a process of its own: others may have compiled for arrays of other kinds."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "{}"
