"""The bench's arithmetic: quantiles, ratios, names."""

import pytest

from tickmesh.domain.errors import ConfigError
from tickmesh.runtime.bench.result import Failed, Result, Skipped, from_ns, ratios, table


def test_quantiles_are_of_all_durations_in_microseconds() -> None:
    result = from_ns("x", [1000 * i for i in range(1, 101)], "")
    assert (result.p50, result.p99, result.n, result.mean) == (51.0, 100.0, 100, 50.5)


def test_operations_done_in_blocks_are_counted_one_by_one() -> None:
    result = from_ns("x", [10_000] * 5, "", per=10)
    assert (result.p50, result.n) == (1.0, 50)


def test_a_benchmark_without_a_measurement_is_an_error() -> None:
    with pytest.raises(ValueError, match="x measured nothing"):
        from_ns("x", [], "")


def test_ratios_say_how_many_times_faster_and_what_share() -> None:
    def result(name: str, p50: float) -> Result:
        return Result(name, "us", p50, p50, 1, "")

    found = {r["name"]: r["value"] for r in ratios([result("depth_native", 2.0), result("depth_nautilus", 200.0)])}
    assert found == {"depth_native / depth_nautilus": 100.0}
    found = {r["name"]: r["value"] for r in ratios([result("hop_nats", 3.0), result("hop_nats_raw", 2.0)])}
    assert found == {"hop_nats / hop_nats_raw": 1.5}


def test_the_table_names_what_was_skipped_and_what_failed_and_why() -> None:
    text = table([Result("a", "us", 1, 2, 3, "what"), Skipped("b", "not here"), Failed("c", "OSError: broken")])
    assert "| `a` | 1.000 | 2.000 | us | 3 | what |" in text
    assert "- skipped `b`: not here" in text and "- failed `c`: OSError: broken" in text


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    from tickmesh.runtime.bench.suite import choose

    assert choose("hop_tcp, timer") == ["timer", "hop_tcp"]
    with pytest.raises(ConfigError, match=r"no benchmark nonsense; there are .*hop_tcp"):
        choose("nonsense")
