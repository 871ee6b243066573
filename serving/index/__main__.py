"""`python -m serving.index`."""

import sys

from serving.index.command import main

if __name__ == "__main__":
    sys.exit(main())
