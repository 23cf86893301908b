"""The whole configuration as one object."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tickmesh.settings.account import AccountSettings
from tickmesh.settings.execution import ExecutionSettings
from tickmesh.settings.feed import FeedSettings
from tickmesh.settings.gateway import GatewaySettings
from tickmesh.settings.hotpath import HotpathSettings
from tickmesh.settings.local import LocalSettings
from tickmesh.settings.nats import NatsSettings
from tickmesh.settings.observe import ObserveSettings
from tickmesh.settings.operator import OperatorSettings
from tickmesh.settings.postgres import PostgresSettings
from tickmesh.settings.recorder import RecorderSettings
from tickmesh.settings.redis import RedisSettings
from tickmesh.settings.risk import RiskSettings
from tickmesh.settings.simvenue import SimvenueSettings
from tickmesh.settings.strategy import StrategySettings
from tickmesh.settings.venue import VenueSettings


class Settings(BaseSettings):
    """All sections. Build one with ``settings.load``, which turns mistakes into one sentence."""

    model_config = SettingsConfigDict(
        env_prefix="TICKMESH_", env_nested_delimiter="__", extra="forbid", validate_assignment=True
    )

    nats: NatsSettings = Field(default_factory=NatsSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    venue: VenueSettings = Field(default_factory=VenueSettings)
    feed: FeedSettings = Field(default_factory=FeedSettings)
    strategy: StrategySettings = Field(default_factory=StrategySettings)
    execution: ExecutionSettings = Field(default_factory=ExecutionSettings)
    account: AccountSettings = Field(default_factory=AccountSettings)
    risk: RiskSettings = Field(default_factory=RiskSettings)
    recorder: RecorderSettings = Field(default_factory=RecorderSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    simvenue: SimvenueSettings = Field(default_factory=SimvenueSettings)
    operator: OperatorSettings = Field(default_factory=OperatorSettings)
    hotpath: HotpathSettings = Field(default_factory=HotpathSettings)
    observe: ObserveSettings = Field(default_factory=ObserveSettings)
    local: LocalSettings = Field(default_factory=LocalSettings)

    def peer_url(self, service: str) -> str:
        """Base URL of the admin endpoints of another service."""
        if self.observe.peer_url:
            return self.observe.peer_url.replace("{service}", service)
        return f"http://{self.observe.host}:{getattr(self, service).admin_port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` hands over: it has read file and environment itself, to name a wrong key."""
        return (init_settings,)
