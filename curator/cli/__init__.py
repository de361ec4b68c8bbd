"""The command line: parse, call, print. The only room that prints or exits.

Exit codes: 0 success, 1 a bug in curator, 2 an error that the user can fix, 3 findings, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import click

from curator import __version__
from curator.cli.audit import audit, route
from curator.cli.build import build, check, new, verify
from curator.cli.cluster import cluster
from curator.cli.env import env
from curator.cli.judge import judge
from curator.cli.publish import publish
from curator.cli.rows import rows
from curator.cli.sandbox import sandbox
from curator.cli.select import select
from curator.cli.show import compare, show
from curator.cli.suite import suite
from curator.errors import CuratorError, machine_fault


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="curator")
def cli() -> None:
    """Build and vet durable safety-alignment data sets."""


for command in (
    audit,
    build,
    check,
    cluster,
    compare,
    env,
    judge,
    new,
    publish,
    route,
    rows,
    sandbox,
    select,
    show,
    suite,
    verify,
):
    cli.add_command(command)


_interrupts: list[int] = []
"""Signals of Ctrl-C received while a command ran."""
AGAIN = 30.0
"""Seconds after which Ctrl-C is raised again if the command goes on: a library may have swallowed it, in a callback or
around an import."""


def main() -> NoReturn:
    """Runs the command line and exits."""
    former = {number: signal.signal(number, react) for number, react in _REACTIONS.items()}
    try:
        code = _run(lambda: cli.main(standalone_mode=False))
    finally:
        for number, react in former.items():
            signal.signal(number, react)
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupts.append(number)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
    signal.default_int_handler(number, frame)


def _again(number: int, frame: FrameType | None) -> None:
    """Raises a swallowed Ctrl-C again, unless the command is cleaning up after it, which may take long: replies of an
    endpoint that were paid for are awaited, and models are removed.
    """
    handled = sys.exc_info()[1]
    while handled is not None:
        if isinstance(handled, KeyboardInterrupt | GeneratorExit):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        handled = handled.__context__
    _interrupt(number, frame)


_REACTIONS = {signal.SIGINT: _interrupt, signal.SIGALRM: _again}


def _run(command: Callable[[], object]) -> int:
    try:
        try:
            code = command()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except CuratorError as error:
        click.echo(f"Error: {error}", err=True)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # click reads it as Ctrl-D at a prompt, which curator never shows
            raise error.__cause__ from None
        if not isinstance(error, click.exceptions.Abort):  # here click has already ended the line
            click.echo(err=True)
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        if _interrupts:  # a library whose import Ctrl-C interrupts may raise another error
            return _interrupted()
        if (fault := machine_fault(error)) is not None:
            click.echo(f"Error: {fault}", err=True)
            _give_up_output()
            return 2
        raise
    return code if isinstance(code, int) else 0


def _give_up_output() -> None:
    """Drops what standard output cannot take, which Python would try to write once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted() -> int:
    click.echo("Interrupted. Finished work is kept; run the same command again to continue.", err=True)
    return 130
