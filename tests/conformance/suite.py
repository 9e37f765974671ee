"""Checks that are run one after the other, told one a line, and counted at the end."""

import sys
import time
import traceback

# A Java stack trace says most at its beginning.
MOST_CHARACTERS = 1000


class Suite:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, function, *arguments):
        """Runs one check; an exception of any kind is its failure. The others go on."""
        began = time.monotonic()
        try:
            function(*arguments)
            self.passed += 1
            outcome = "ok"
        except Exception as error:
            self.failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error)[:MOST_CHARACTERS] or type(error).__name__
            outcome = f"FAILED: {text} ({where.name}:{where.lineno})"
        print(f"  {name} ... {outcome} ({time.monotonic() - began:.1f} s)", flush=True)

    def end(self):
        """The closing line, which `scripts/test` adds up, and the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)


def same(found, expected, what="value"):
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def has(text, part):
    if part not in text:
        raise AssertionError(f"expected {part!r} in {text!r}")
