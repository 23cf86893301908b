"""The first steps of a plugin: its configuration out of its resource, and its ``initialize``.

In: a plan and the instruments. Out: an initialised plugin, or a ConfigError whose sentence names file and parameter.
"""

from __future__ import annotations

from collections.abc import Mapping

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.strategy.guard import Guard, describe
from tickmesh.strategy.interface import StrategyConfig
from tickmesh.strategy.resource import StrategyResource


def config_of(plan: StrategyResource, instruments: Mapping[str, Instrument]) -> StrategyConfig:
    """What a plugin of ``plan`` is initialised with."""
    spec = plan.spec
    own = {symbol: instruments[symbol] for symbol in spec.symbols}
    return StrategyConfig(
        name=plan.name, symbols=spec.symbols, instruments=own, parameters=spec.parameters, venue=spec.venue,
        max_position_lots={s: int(spec.limits.max_position / i.lot_size) for s, i in own.items()},
    )  # fmt: skip


def initialize(guard: Guard, plan: StrategyResource, instruments: Mapping[str, Instrument]) -> None:
    """Give a new plugin its parameters.

    Raises:
        ConfigError: it refuses them, does not know one of them, or fails; names the resource.
    """
    config = config_of(plan, instruments)
    try:
        guard.plugin.initialize(config)
        config.check_all_known()
    except ConfigError as error:
        raise ConfigError(f"{plan.file}: {plan.name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{plan.file}: {plan.name}: the plugin's initialize {describe(error)}") from None
