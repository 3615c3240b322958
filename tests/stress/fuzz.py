"""``python -m tests.stress.fuzz SECONDS``: hypothesis at the decode boundary.

A file is one of the known ones with some of its bytes replaced, cut out or repeated, where
hypothesis chooses which; PNG checksums are made right again half of the time.
"""

from __future__ import annotations

import random
import sys
import time
import warnings

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests import hostile

FILES = [*hostile.pictures(), *hostile.dicoms()]
EXAMPLES = 2000
Edit = tuple[int, int, bytes]


def edits() -> st.SearchStrategy[list[Edit]]:
    """(where, how much is taken out, what is put in), up to eight times."""
    odd = st.sampled_from([b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff", b"\x80\0\0\0"])
    put = st.one_of(odd, st.binary(max_size=16))
    return st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 64), put), max_size=8)


def edited(data: bytes, changes: list[Edit], checksums: bool) -> bytes:
    out = bytearray(data)
    for where, length, put in changes:
        at = where % max(1, len(out))
        out[at : at + length] = put
    return hostile.checksummed(bytes(out)) if checksums else bytes(out)


def main(seconds: str) -> None:
    warnings.simplefilter("ignore")
    end, toll = time.monotonic() + float(seconds), hostile.Toll(seed=random.randrange(2**32))
    rng = random.Random(toll.seed)

    def one(file: int, changes: list[Edit], checksums: bool) -> None:
        hostile.strike(edited(FILES[file], changes, checksums), toll)

    every = given(st.integers(0, len(FILES) - 1), edits(), st.booleans())
    quietly = settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )
    while time.monotonic() < end:
        seed(rng.randrange(2**32))(quietly(every(one)))()
    assert toll.slowest < hostile.SLOWEST, str(toll)
    sys.stdout.write(f"fuzz, {seconds} s: {toll}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
