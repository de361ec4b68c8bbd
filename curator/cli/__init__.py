"""The command line: parse, call, print. The only room that prints or exits.

Exit codes: 0 well, 1 a bug of ours, 2 something the user can mend, 3 findings, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import click

from curator import __version__
from curator.cli.audit import audit, route
from curator.cli.build import build, check, new, verify
from curator.cli.cluster import cluster
from curator.cli.judge import judge
from curator.cli.publish import publish
from curator.cli.sandbox import sandbox
from curator.cli.show import compare, show
from curator.cli.suite import suite
from curator.errors import CuratorError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="curator")
def cli() -> None:
    """Builds and vets durable safety-alignment data sets."""


for command in (audit, build, check, cluster, compare, judge, new, publish, route, sandbox, show, suite, verify):
    cli.add_command(command)


def main() -> NoReturn:
    """Runs the command line and exits."""
    sys.exit(_run(lambda: cli.main(standalone_mode=False)))


def _run(command: Callable[[], object]) -> int:
    try:
        code = command()
    except CuratorError as error:
        click.echo(f"Error: {error}", err=True)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for Ctrl-D at a prompt; we ask nothing
            raise error.__cause__ from None
        click.echo("\nInterrupted. What was finished is kept: run the same command again to go on.", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0
