"""report.json is what its schema says, and the schema says all of it."""

import copy
import json
from pathlib import Path

import pytest
from invented import invent
from jsonschema import Draft202012Validator

import curator.report
from curator.publish.dataset import publishable
from curator.report.contents import VERSION

SCHEMA = json.loads((Path(curator.report.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))


def mistakes(report):
    return [f"{list(one.absolute_path)}: {one.message}" for one in Draft202012Validator(SCHEMA).iter_errors(report)]


def test_the_schema_is_one():
    def once(items):
        names = [name for name, _ in items]
        assert len(set(names)) == len(names), f"described twice: {names}"
        return dict(items)

    json.loads((Path(curator.report.__file__).parent / "report.schema.json").read_text(), object_pairs_hook=once)
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["version"]["const"] == VERSION


@pytest.mark.parametrize(
    "options", [{}, {"tasks": {"list": 1.0}}, {"benign": False}, {"gates": {}}, {"seeds": 2}, {"categories": (None,)}]
)
def test_a_report_is_what_the_schema_says(options):
    assert mistakes(invent(**options).report()) == []


def test_what_is_published_is_too(report):
    assert mistakes(publishable(report)) == []


def test_every_key_is_described(report):
    missing = set(report) - set(SCHEMA["properties"])
    assert not missing, f"describe {missing} in curator/report/report.schema.json"
    for name in ("decision", "selection", "pool", "judges", "design"):
        described = set(SCHEMA["properties"][name]["properties"])
        assert set(report[name]) - described <= {"group_counts", "budget_used", "all_pairs_value", "all_pairs_bound"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report.pop("decision"),
        lambda report: report.update(version=2),
        lambda report: report["decision"].update(outcome="better"),
        lambda report: report["gates"][0].update(outcome="maybe"),
        lambda report: report["arms"]["curated"]["list"]["after"]["harmfulness"].update(value=1.5),
        lambda report: report["arms"]["curated"]["list"]["after"]["harmfulness"].pop("unscored"),
        lambda report: report["comparisons"][0].pop("role"),
        lambda report: report["judges"]["panel"][0]["outcomes"].update(safe="many"),
        lambda report: report["pool"].update(read=-1),
        lambda report: report["selection"].pop("bound"),
    ],
)
def test_a_report_that_is_not_is_found(report, damage):
    broken = copy.deepcopy(report)
    damage(broken)
    assert mistakes(broken)
