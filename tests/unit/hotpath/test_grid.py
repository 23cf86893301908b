"""Text becomes whole ticks and lots exactly, or is refused; nothing is rounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickmesh.domain.errors import OffGridError
from tickmesh.hotpath.pure.grid import Grid


@given(st.integers(0, 2**53), st.integers(0, 8), st.sampled_from([1, 2, 5, 25]))
def test_every_multiple_of_the_step_is_its_number_of_steps(units: int, places: int, step: int) -> None:
    size = Decimal(step).scaleb(-places)
    text = f"{units * size:f}"
    assert Grid(size, "price", "S").units(text) == units
    assert Grid(size, "price", "S").units(text + ("0" if "." in text else ".0")) == units


@pytest.mark.parametrize(
    "text",
    ["0.15", "-1.0", "+1", "1e3", "NaN", "Infinity", "", " 1", "1 ", "1_0", "1.", ".5", "0x1", "١", "1,0", "9" * 40],
)  # fmt: skip
def test_what_is_no_plain_multiple_is_refused(text: str) -> None:
    grid = Grid(Decimal("0.1"), "price", "BTCUSDT")
    for _ in range(2):  # a refusal is not remembered as an answer
        with pytest.raises(OffGridError, match=r"price .* of BTCUSDT is not a multiple of 0\.1"):
            grid.units(text)


def test_a_step_beyond_what_a_float_holds_exactly_is_refused() -> None:
    grid = Grid(Decimal(1), "quantity", "S")
    assert grid.units(str(2**53)) == 2**53
    with pytest.raises(OffGridError):
        grid.units(str(2**53 + 1))
