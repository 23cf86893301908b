"""The document's tables are written by the run that measured them."""

from pathlib import Path

import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.bench.document import check, updated
from tickmesh.runtime.bench.result import Result, Skipped

ABOUT = {"cores": 2, "machine": "x86_64", "system": "Linux 6-build", "python": "3.11.7", "load_before": 0.5}
DOCUMENT = """# Words before
<!-- bench:conditions -->
old
<!-- /bench:conditions -->
between
<!-- bench:lines -->
| name | p50 | p99 | unit | n | what |
|---|---:|---:|---|---:|---|
| `timer` | 9 | 9 | us | 9 | an old line |
| `hop_tcp` | 8 | 8 | us | 8 | not measured this time |
<!-- /bench:lines -->
<!-- bench:goals -->
<!-- /bench:goals -->
<!-- bench:ratios -->
<!-- /bench:ratios -->
<!-- bench:parts -->
<!-- /bench:parts -->
words after
"""


def result(name: str, p50: float) -> Result:
    return Result(name, "us", p50, 2 * p50, 1000, "what it is")


def test_lines_of_the_run_replace_the_old_ones_and_what_it_did_not_measure_stays() -> None:
    text = updated(
        DOCUMENT, ABOUT, [result("timer", 1.5), Skipped("hop_tcp", "no"), result("orders_per_s", 12345.0)], whole=True
    )
    assert "| `timer` | 1.5 | 3 | us | 1,000 | what it is |" in text and "an old line" not in text
    assert "| `hop_tcp` | 8 | 8 | us | 8 | not measured this time |" in text
    assert "| `orders_per_s` | 12,345 | 24,690 | us | 1,000 | what it is |" in text
    assert text.startswith("# Words before\n") and text.endswith("words after\n") and "\nbetween\n" in text
    assert "2 cores (x86_64), Linux 6, Python 3.11.7, load before the run 0.5." in text


def test_a_run_of_some_benchmarks_replaces_their_lines_and_nothing_else() -> None:
    text = updated(DOCUMENT, ABOUT, [result("hop_nats", 50.0), result("hop_nats_raw", 25.0)], whole=False)
    assert "| `hop_nats` | 50 | 100 | us | 1,000 | what it is |" in text
    assert "\nold\n" in text and "hop_nats / hop_nats_raw" not in text


def test_a_whole_run_is_held_to_the_goals_on_the_page() -> None:
    text = updated(DOCUMENT, ABOUT, [result("pretrade_native", 2.5), result("hop_ring", 1.0)], whole=True)
    assert "(`pretrade_native`) | at most 2 us | 2.5 | **no** |" in text
    assert "(`hop_ring`) | at most 2 us | 1 | yes |" in text


def test_writing_the_same_run_twice_changes_nothing_more() -> None:
    outcomes = [result("timer", 1.5), result("hop_nats", 50.0), result("hop_nats_raw", 25.0)]
    once = updated(DOCUMENT, ABOUT, outcomes, whole=True)
    assert "| `hop_nats / hop_nats_raw` | 2 |" in once
    assert updated(once, ABOUT, outcomes, whole=True) == once


def test_the_parts_of_an_orders_way_become_one_table_with_a_column_per_way() -> None:
    outcomes = [result("tick_to_order_nats", 900.0), result("tick_to_order_nats_in_feed", 50.0)]
    text = updated(DOCUMENT, ABOUT, outcomes, whole=True)
    assert "| part (median, us) | nats |" in text
    assert "| `in_feed` | 50 |" in text and "| **whole** | 900 |" in text
    assert "| `tick_to_order_nats_in_feed` |" not in text


def test_a_document_without_the_blocks_is_refused_with_the_missing_one() -> None:
    with pytest.raises(ConfigError, match="no block <!-- bench:lines -->"):
        updated("nothing", ABOUT, [], whole=False)


def test_a_document_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        check(tmp_path / "absent.md")
    (tmp_path / "half.md").write_text(DOCUMENT.replace("<!-- bench:parts -->", ""))
    with pytest.raises(ConfigError, match="no block <!-- bench:parts -->"):
        check(tmp_path / "half.md")
    (tmp_path / "whole.md").write_text(DOCUMENT)
    check(tmp_path / "whole.md")
