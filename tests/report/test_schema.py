"""Files are what their schemas say; what an earlier version wrote is read, and what is damaged is refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from curator.cli import cli
from curator.conclusions.part import plain, schema
from curator.errors import RunError
from curator.publish.record import publishable
from curator.report.model import VERSION, Report, read_report
from tests.report.invented import invent

GOLDEN = Path(__file__).parents[1] / "golden" / "reports"
SCHEMA = schema(Report, "report.json")
REPORTS = sorted(GOLDEN.glob("report-*.json"))


def mistakes(contents, found=SCHEMA):
    return [f"{list(one.absolute_path)}: {one.message}" for one in Draft202012Validator(found).iter_errors(contents)]


def printed(name):
    result = CliRunner().invoke(cli, ["show", "--schema", name], catch_exceptions=False)
    return json.loads(result.output)


@pytest.mark.parametrize("name", ["report", "suite", "audit", "cluster"])
def test_the_command_prints_the_schema_of_what_earlier_versions_wrote(name):
    found = printed(name)
    Draft202012Validator.check_schema(found)
    assert found["title"] == f"{name}.json of curator, version {VERSION if name == 'report' else 1}"
    files = sorted(GOLDEN.glob(f"{name}*.json"))
    assert files
    for file in files:
        assert mistakes(json.loads(file.read_text()), found) == [], file


def test_every_key_of_a_report_is_described():
    for name, described in SCHEMA["properties"].items():
        kind = described.get("$ref", "").rpartition("/")[2]
        assert described.get("description") or SCHEMA["$defs"][kind]["description"], name


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.stem)
def test_a_report_of_an_earlier_version_is_read_whole(file):
    assert plain(read_report(file)) == json.loads(file.read_text())


def test_the_goldens_hold_what_only_some_runs_have():
    pilot, looks = (read_report(GOLDEN / f"report-{name}.json") for name in ("pilot", "looks"))
    assert None not in (pilot.pilot, looks.sequential, looks.judge_error)
    assert () not in (pilot.stability, pilot.forgetting, pilot.score_predicts, looks.sequential.looks)
    assert looks.judge_error.corrects
    assert len(looks.judges.panel) == 2


@pytest.mark.parametrize(
    "options", [{}, {"tasks": {"list": 1.0}}, {"benign": False}, {"gates": {}}, {"seeds": 2}, {"categories": (None,)}]
)
def test_a_report_is_what_the_schema_says(options):
    assert mistakes(plain(invent(**options).report())) == []


def test_what_is_published_is_too(report):
    assert mistakes(plain(publishable(report))) == []


def test_a_share_that_rounding_puts_past_one_is_one(report):
    harmfulness = report.regime.before.model_copy(update={"value": 1.0 + 2**-52})
    assert type(harmfulness).model_validate(plain(harmfulness)).value == 1.0


def test_keys_that_a_report_did_not_have_from_the_beginning_may_be_missing(report, tmp_path):
    early = {name: value for name, value in plain(report).items() if name not in ("stability", "pilot", "timing")}
    (tmp_path / "report.json").write_text(json.dumps(early))
    found = read_report(tmp_path / "report.json")
    assert (found.stability, found.pilot, found.timing.stages) == ((), None, {})


def rate(report):
    return report["arms"]["curated"]["list"]["after"]["harmfulness"]


DAMAGES = {
    **{f"without {name}": lambda report, name=name: report.pop(name) for name in SCHEMA["required"]},
    "another version": lambda report: report.update(version=VERSION + 1),
    "no object": lambda report: report.update(model="sandbox:"),
    "an unknown outcome": lambda report: report["decision"].update(outcome="better"),
    "an unknown outcome of a gate": lambda report: report["gates"][0].update(outcome="maybe"),
    "an unknown phase": lambda report: report["comparisons"][0].update(phase="later"),
    "a share above one": lambda report: rate(report).update(value=1.5),
    "a share below zero": lambda report: rate(report).update(low=-0.5),
    "a difference above one": lambda report: report["decision"]["primary"].update(difference=1.5),
    "a rank correlation above one": lambda report: report["score_predicts"][0].update(rho=2.0),
    "an overlap above one": lambda report: report["stability"][0].update(overlap=1.1),
    "a rate without unscored": lambda report: rate(report).pop("unscored"),
    "an arm without degenerate": lambda report: report["arms"]["curated"]["list"]["after"].pop("degenerate"),
    "a comparison without its role": lambda report: report["comparisons"][0].pop("role"),
    "a primary of nothing": lambda report: report["decision"].update(primary=None),
    "a count in words": lambda report: report["judges"]["panel"][0]["outcomes"].update(safe="many"),
    "a count below zero": lambda report: report["pool"].update(read=-1),
    "a count that is a fraction": lambda report: report["selection"].update(k=2.5),
    "a count that is true": lambda report: report["tasks"][0].update(test=True),
    "a number in quotes": lambda report: report["selection"].update(value="1.0"),
    "a name that is null": lambda report: report.update(name=None),
    "a bound that is missing": lambda report: report["selection"].pop("bound"),
    "one limit of a bootstrap": lambda report: report["comparisons"][0].update(bootstrap=[0.1]),
    "a round without its place": lambda report: report["pilot"]["candidates"][0]["rounds"][0].pop("place"),
    "an engine of another kind": lambda report: report["timing"]["engine"].update(kind="slurm"),
    "no worker": lambda report: report["timing"]["engine"].update(workers=0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_report_that_is_not_what_the_schema_says_is_refused(damage, tmp_path):
    broken = json.loads((GOLDEN / "report-pilot.json").read_text())
    damage(broken)
    assert mistakes(broken)
    for name in ("stability", "pilot"):  # which a reader takes from an early report
        broken.setdefault(name, "missing")
    (tmp_path / "report.json").write_text(json.dumps(broken))
    with pytest.raises(RunError, match="does not match its schema \\("):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize("place", [(), ("decision",), ("gates", 0), ("pool", "sources", 0), ("timing", "engine")])
def test_an_unknown_key_is_not_in_the_schema_and_does_not_keep_a_report_from_being_read(place, tmp_path):
    more = json.loads((GOLDEN / "report-pilot.json").read_text())
    at = more
    for step in place:
        at = at[step]
    at["unheard"] = 1
    assert mistakes(more)
    (tmp_path / "report.json").write_text(json.dumps(more))
    assert read_report(tmp_path / "report.json") == read_report(GOLDEN / "report-pilot.json")


def test_the_command_wants_a_run_or_a_schema():
    result = CliRunner().invoke(cli, ["show"])
    assert result.exit_code == 2
    assert "RUN" in result.output
