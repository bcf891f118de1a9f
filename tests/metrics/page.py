"""Parses a page of metrics from standard input as Prometheus does. Prints, as JSON, each family's name,
kind and labels, and whether any of its values is not zero."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

page = sys.stdin.read()
families, seen = {}, set()
for family in text_string_to_metric_families(page):
    assert family.documentation, f"{family.name} has no help"
    assert family.name not in families, f"{family.name} appears twice"
    for sample in family.samples:
        one = (sample.name, tuple(sorted(sample.labels.items())))
        assert one not in seen, f"{one} appears twice"
        seen.add(one)
    if family.type == "histogram":
        grown = {}
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            key = tuple(sorted(labels.items()))
            if sample.name.endswith("_bucket"):
                assert sample.value >= grown.get(key, 0), f"{family.name}: a bucket is smaller than the one before"
                grown[key] = sample.value
            elif sample.name.endswith("_count"):
                assert sample.value == grown[key], f"{family.name}: not every observation is in a bucket"
    counted = [s for s in family.samples if not s.name.endswith(("_bucket", "_sum"))]
    families[family.name] = {
        "kind": family.type,
        "labels": sorted({name for sample in counted for name in sample.labels}),
        "moved": any(sample.value != 0 for sample in counted),
        "values": {name: sorted({s.labels[name] for s in counted if name in s.labels}) for s in counted for name in s.labels},
    }
# The parser removes the suffix; the page has it.
for line in page.splitlines():
    if line.startswith("# TYPE ") and line.endswith(" counter"):
        name = line.split()[2]
        assert name.endswith("_total"), f"{name} is a counter"
        families[name] = families.pop(name.removesuffix("_total"))
print(json.dumps(families))
