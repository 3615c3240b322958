"""``python -m training.simulate``: the same as ``python -m training simulate``."""

import argparse
import logging
import sys

from .cli import add_arguments, run

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser("training.simulate", description="Simulated radiographs")
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
