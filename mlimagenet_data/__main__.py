"""`python -m mlimagenet_data`: the command `mlimagenet`."""

import sys

from mlimagenet_data.cli import main

if __name__ == "__main__":
    sys.exit(main())
