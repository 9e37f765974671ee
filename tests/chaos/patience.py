"""How long is waited for what must come: a machine that does other work as well is given more time, never another outcome."""

import os

# Every wait is this many times as long as it says.
FACTOR = float(os.environ.get("STEADFS_PATIENCE", "1"))


def stretched(seconds):
    return seconds * FACTOR
