"""What a recipe may say of openers before refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from curator.errors import RecipeError
from curator.forecast.models import lacking, unusual
from curator.recipe.augment import OPENERS, Recovery
from curator.recipe.probes import OPENING
from tests.small_run import recipe

ARMS = "verify.arms=[curated, random, curated+recovery, random+recovery]"


def test_a_recovery_arm_needs_its_section_and_the_section_such_an_arm() -> None:
    with pytest.raises(RecipeError, match=r"arm 'curated\+recovery' .* add `augment: \{recovery: \{\}\}`"):
        recipe(ARMS)
    with pytest.raises(
        RecipeError, match=r"augment: recovery has no effect: only the arms curated\+recovery and random\+recovery"
    ):
        recipe("augment.recovery={}")
    assert recipe(ARMS, "augment.recovery={}").augment.recovery == Recovery()
    assert recipe().augment.recovery is None


def test_a_built_in_arm_takes_no_rows_and_another_name_is_told_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"'random\+recovery' is a built-in arm and takes no data"):
        recipe("verify.arms=[curated, random, {name: random+recovery, file: rows.jsonl}]", "augment.recovery={}")
    with pytest.raises(RecipeError, match=r"did you mean 'random\+recovery'"):
        recipe("verify.arms=[curated, random, random+recover]", "augment.recovery={}")


@pytest.mark.parametrize("tokens", ["[3, 2]", "[0, 2]", "[1]", "[1, 2, 3]"])
def test_the_range_of_tokens_is_checked(tokens: str) -> None:
    with pytest.raises(RecipeError, match=r"augment\.recovery"):
        recipe(ARMS, f"augment.recovery={{tokens: {tokens}}}")


def test_openers_are_the_lines_of_the_file_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openers.txt").write_text("Yes, of course.\n\n  Gladly: \nYes, of course.\n")
    assert Recovery(openers="openers.txt").texts() == ("Yes, of course.", "Gladly:")
    with pytest.raises(RecipeError, match=r"^augment\.recovery\.openers: .*no-such.* cannot be read \(No such file"):
        Recovery(openers="no-such.txt").texts()
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(RecipeError, match="contains no opener"):
        Recovery(openers="empty.txt").texts()
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="it is not UTF-8"):
        Recovery(openers="bytes.txt").texts()


def test_check_warns_where_probes_are_given_an_opening_that_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openers.txt").write_text("gladly, take the honey and a tub.\n")

    def warned(*settings: str) -> bool:
        asked = recipe(ARMS, "augment.recovery={openers: openers.txt, tokens: [1, 4]}", *settings)
        return any(keys == ("augment", "recovery", "openers") for keys, _ in unusual(asked))

    assert warned("probes.prefill=[2]", "probes.opening='gladly, take it'")
    assert not warned("probes.prefill=[2]", "probes.opening='gladly, list it'")
    assert not warned()  # no probe is given an opening
    (tmp_path / "openers.txt").unlink()
    assert not warned("probes.prefill=[2]", "probes.opening='gladly, take it'")
    missing = recipe(ARMS, "augment.recovery={openers: openers.txt}")
    assert [sentence for keys, sentence in lacking(missing) if keys == ("augment", "recovery", "openers")] == [
        "no file openers.txt; give the path of a text file with one opener per line"
    ]


def test_no_built_in_opener_is_the_opening_that_probes_are_given() -> None:
    """An arm that was trained on the probes' own opening would show that it has learned that text by heart."""
    assert all(len(opener.split()) >= 10 for opener in OPENERS)
    first = OPENING.split()[0]
    assert not any(opener.startswith(first) for opener in OPENERS)
