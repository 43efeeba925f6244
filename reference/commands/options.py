"""Values of the command line that several commands read alike."""

import argparse
import re

UNITS = {"": 1, "K": 2**10, "M": 2**20}


def token_count(text: str) -> int:
    """ "4096", "256K" or "1M" as a number; K is 1,024 and M 1,048,576, as contexts are named. For argparse's type."""
    found = re.fullmatch(r"([+-]?\d+)\s*([KM]?)", text.strip().replace(",", "").replace("_", ""), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a number of tokens, such as 4096, 256K or 1M, got {text!r}")
    return int(found[1]) * UNITS[found[2].upper()]
