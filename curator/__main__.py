"""The program `curator`, and `python -m curator`, which looks for modules where the program does: not in the current
folder, unless curator itself is there.
"""

import os
import sys


def main() -> None:
    """Runs the command line and exits; Ctrl-C while it is still being loaded ends with one line, too."""
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
