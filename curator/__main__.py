"""The program `curator`, and `python -m curator`, which searches for modules like the program: not in the current
folder, unless curator itself is there.
"""

import os
import sys


def main() -> None:
    """Runs the command line and exits; Ctrl-C during loading also ends with a single line."""
    try:
        from curator.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    here = os.getcwd()
    package = os.path.dirname(os.path.abspath(__file__))
    if not sys.flags.safe_path and sys.path[0] == here != os.path.dirname(package):
        del sys.path[0]
    main()
