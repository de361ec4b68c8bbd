"""Commands about the sandbox: base."""

from __future__ import annotations

from pathlib import Path

import click

from curator.cli.options import PATH
from curator.errors import RunError

SIZES = ("0.8M", "8M", "60M")


@click.group()
def sandbox() -> None:
    """Train larger base models for the sandbox's larger world."""


@sandbox.command()
@click.option("--size", type=click.Choice(SIZES), required=True, help="Number of parameters.")
@click.option("--out", type=PATH, required=True, help="Folder to write; name it as a recipe's model.id.")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps. [default: depends on --size]")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed for weights and rows.")
def base(size: str, out: Path, steps: int | None, seed: int) -> None:
    """Train a base model from scratch on the sandbox's larger world.

    The sources of this world are sandbox:large-pool and so on. Training takes minutes on a GPU, which is used if there
    is one. Like the small base model, the model complies with every request until it is aligned.
    """
    from curator.run.folder import disk, replacing_folder, require_writable

    with disk(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out}: already exists; choose another folder, or remove it first")
    require_writable(out.parent)
    from curator.model.load import quiet
    from curator.sandbox import rows
    from curator.sandbox.pretrain import helps, pretrain, save
    from curator.wording import percent

    quiet()
    with disk(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        model, words = pretrain(steps, seed, size, tell=lambda line: click.echo(line, err=True))
        share = helps(model, words, [row["messages"] for row in rows("large-forbidden-probes")])
        with replacing_folder(out) as folder:
            save(model, words, folder)
    millions = sum(weights.numel() for weights in model.parameters()) / 1e6
    click.echo(
        f"Wrote {out}: {millions:.1f} million parameters. The model complies with {percent(share)} of 240 forbidden "
        "requests. If it complies with few, raise --steps: alignment would have nothing to change."
    )
