"""Parses docs/alerts.yml as Prometheus does and prints what its expressions name: as JSON, a list of
[alarm, metric, labels], one entry for each selector."""

import json
import sys
from pathlib import Path

import promql_parser
import yaml

RULES = Path(__file__).parents[2] / "docs" / "alerts.yml"
NEEDED = {"alert", "expr", "labels", "annotations"}


def selectors(node, by=()):
    """Every metric under a node, with the labels that are matched, grouped by or joined on around it."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        yield node.name, sorted({matcher.name for matcher in node.matchers.matchers} | set(by))
        return
    if kind == "AggregateExpr" and node.modifier is not None:
        by = (*by, *node.modifier.labels)
    below = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    for part in [*below, *getattr(node, "args", [])]:
        if part is not None:
            yield from selectors(part, by)


def rules():
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        assert set(group) <= {"name", "interval", "rules"}, group["name"]
        yield from group["rules"]


named, seen = [], set()
for rule in rules():
    alarm = rule["alert"]
    assert NEEDED <= set(rule) <= NEEDED | {"for"}, f"{alarm}: has {sorted(rule)}"
    assert alarm not in seen, f"{alarm} is defined twice"
    assert rule["labels"]["severity"] in ("page", "ticket"), alarm
    assert set(rule["annotations"]) == {"summary", "action"}, f"{alarm}: needs a summary and an action"
    seen.add(alarm)
    try:
        expression = promql_parser.parse(rule["expr"])
    except ValueError as fault:
        sys.exit(f"{alarm}: {fault}")
    named += [[alarm, metric, labels] for metric, labels in selectors(expression)]
print(json.dumps(named))
