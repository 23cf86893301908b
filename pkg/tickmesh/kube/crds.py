"""The custom resources: their schemas, written once here; ``k8s/crds/*.yaml`` and the chart are generated from it.

In: nothing. Out: CustomResourceDefinition objects. What CEL cannot say (that an account exists, that a plugin can be
loaded) is the operator's and the admission webhook's business.
"""

from __future__ import annotations

from typing import Any

from tickmesh.kube.schema import (
    NAME,
    Schema,
    anything,
    choice,
    column,
    conditions,
    decimal,
    definition,
    flag,
    group,
    integer,
    many,
    moment,
    resource,
    rule,
    signed_decimal,
    text,
)

GROUP = "tickmesh.io"
VERSION = "v1alpha1"
_HOUR_MS = 3_600_000


def _limits() -> Schema:
    fields = {
        "maxPosition": decimal("Most held per symbol, open orders included; base currency.", default="0.1"),
        "maxOrderNotional": decimal("Most one order may be worth; quote currency.", default="5000"),
        "maxOpenOrders": integer("Most orders open at once.", 1, 1000, default=8),
        "coolDownMs": integer("Least time between new orders on one side of one symbol; ms.", 0, _HOUR_MS, default=200),
        "maxOrdersPerSecond": integer("Most new orders a second.", 1, 1000, default=10),
    }
    return group("Bounds of this strategy, enforced before an order is made. Must be there in mode Live.", fields)


def _plugin() -> Schema:
    sources = "(has(self.entryPoint)?1:0)+(has(self.module)?1:0)+(has(self.file)?1:0)+(has(self.configMap)?1:0)"
    config_map = group(
        "A key of a ConfigMap of the same namespace that holds a single .py file.",
        {"name": text("Its name.", pattern=NAME), "key": text("Its key.", default="strategy.py")},
        required=("name",),
    )
    return group(
        "Where the plugin class is: exactly one of these.",
        {
            "entryPoint": text("Name in the entry point group tickmesh.strategies, for example momentum."),
            "module": text("package.module:Class in the image.", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"),
            "file": text("A .py file in the image, optionally :Class behind it.", maxLength=4096),
            "configMap": config_map,
        },
        rules=(rule(f"{sources} == 1", "give exactly one of entryPoint, module, file and configMap"),),
    )


def _placement() -> Schema:
    toleration = anything("A core/v1 Toleration.")
    return group(
        "Where the pods may run.",
        {
            "nodeSelector": {
                "type": "object",
                "description": "Labels that a node must have.",
                "additionalProperties": {"type": "string", "maxLength": 63},
                "maxProperties": 32,
            },
            "tolerations": many("Taints that the pods stand.", toleration, 32),
            "priorityClassName": text("Scheduling priority."),
            "sharedMemory": flag("Take market data from the ring of a feed on the same node.", default=False),
        },
    )


def _strategy_spec() -> Schema:
    resource_list = {
        "type": "object",
        "description": "Quantities by resource name.",
        "additionalProperties": {"x-kubernetes-int-or-string": True},
        "maxProperties": 16,
    }
    live = "self.mode != 'Live' || (has(self.account) && self.account != '')"
    return group(
        "What should run.",
        {
            "plugin": _plugin(),
            "parameters": anything("Handed to the plugin, which checks them."),
            "mode": choice(
                "Live sends orders; Simulation fills on paper; Observation only signals.",
                "Live",
                "Simulation",
                "Observation",
                default="Observation",
            ),
            "venue": text("Name of the venue; empty for the installation's own.", default=""),
            "account": text("Name of a TradingAccount of this namespace; must be there in mode Live.", default=""),
            "symbols": many(
                "Symbols, as the venue spells them; empty for the installation's own.",
                text("For example BTCUSDT.", pattern="^[A-Z0-9]{1,30}$", maxLength=30),
                256,
                **{"x-kubernetes-list-type": "set"},
            ),
            "replicas": integer("Pods per shard: one trades (lease), the others are warm.", 0, 5, default=1),
            "shards": integer("Symbols are spread over that many Deployments' worth of leases.", 1, 32, default=1),
            "limits": _limits(),
            "paused": flag("No new orders; resting ones are cancelled.", default=False),
            "onStale": choice(
                "What becomes of resting orders while their book cannot be trusted.", "Cancel", "Keep", default="Cancel"
            ),
            "resources": group(
                "Requests and limits of the container.", {"requests": resource_list, "limits": dict(resource_list)}
            ),
            "placement": _placement(),
            "image": text("Another image than the installation's.", maxLength=512),
        },
        required=("plugin",),
        rules=(
            rule(live, "mode Live needs an account: the name of a TradingAccount", ".account"),
            rule("self.mode != 'Live' || has(self.limits)", "mode Live needs limits", ".limits"),
            rule(
                "!has(self.symbols) || size(self.symbols) == 0 || self.shards <= size(self.symbols)",
                "there cannot be more shards than symbols",
                ".shards",
            ),
        ),
    )


def _strategy_status() -> Schema:
    position = group(
        "One position of this strategy.",
        {"symbol": text("Symbol."), "quantity": signed_decimal("Signed; base currency.")},
    )
    return group(
        "What is.",
        {
            "observedGeneration": integer("Generation that this status belongs to.", 0, 2**53),
            "phase": choice(
                "In one word.", "Pending", "Starting", "Running", "Paused", "Halted", "Degraded", "Terminating"
            ),
            "conditions": conditions(),
            "replicas": integer("Pods that there are.", 0, 1000),
            "readyReplicas": integer("Pods that are ready.", 0, 1000),
            "selector": text("Of the pods, for the scale subresource.", maxLength=1024),
            "epoch": integer("Epoch of the lease; each hand-over counts.", 0, 2**53),
            "holder": text("Pod that holds the lease."),
            "mode": text("Mode that the pods confirmed."),
            "positions": many("Positions of this strategy.", position, 256),
            "pnl": signed_decimal("Realised and unrealised, quote currency, since the strategy began."),
            "lastSignalTime": moment("When it signalled last."),
            "lastError": text("The plugin's last error, one sentence.", maxLength=1024),
        },
    )


def strategy() -> dict[str, Any]:
    """The Strategy resource."""
    schema = resource(
        "Strategy runs one trading plugin.",
        _strategy_spec(),
        _strategy_status(),
        rules=(
            rule("size(self.metadata.name) <= 52", "the name must be 52 characters or fewer: pods are named after it"),
        ),
    )
    columns = [
        column("Mode", ".spec.mode"),
        column("Phase", ".status.phase"),
        column("Ready", ".status.readyReplicas", "integer"),
        column("Paused", ".spec.paused", "boolean"),
        column("P&L", ".status.pnl"),
        column("Age", ".metadata.creationTimestamp", "date"),
        column("Account", ".spec.account", wide=True),
        column("Last signal", ".status.lastSignalTime", "date", wide=True),
        column("Holder", ".status.holder", wide=True),
        column("Epoch", ".status.epoch", "integer", wide=True),
        column("Last error", ".status.lastError", wide=True),
    ]
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return definition("Strategy", "strategies", ("strat", "st"), schema, columns, scale=scale)


def circuit_breaker() -> dict[str, Any]:
    """The CircuitBreaker resource."""
    schema = resource(
        "CircuitBreaker stands before something that can fail, and can be tripped by hand.",
        _breaker_spec(),
        _breaker_status(),
    )
    columns = [
        column("Target", ".spec.target.kind"),
        column("Name", ".spec.target.name"),
        column("State", ".status.state"),
        column("Forced", ".spec.forced"),
        column("Failures", ".status.failures", "integer"),
        column("Opened", ".status.openedAt", "date"),
        column("Reason", ".status.reason"),
        column("Next probe", ".status.nextProbeAt", "date", wide=True),
        column("Age", ".metadata.creationTimestamp", "date", wide=True),
    ]
    return definition("CircuitBreaker", "circuitbreakers", ("cb",), schema, columns)


def _breaker_spec() -> dict[str, Any]:
    named = "self.kind in ['Strategy', 'Account'] ? (has(self.name) && self.name != '') : true"
    target = group(
        "What it stands before.",
        {
            "kind": choice(
                "VenueREST and VenueWebSocket: the venue's two doors. Database, Cache, Bus: ours. Strategy, Account: "
                "trading of the one named. Everything: all trading.",
                "VenueREST",
                "VenueWebSocket",
                "Database",
                "Cache",
                "Bus",
                "Downstream",
                "Strategy",
                "Account",
                "Everything",
            ),
            "name": text("Which one: venue, strategy or account."),
        },
        required=("kind",),
        rules=(
            rule(named, "a breaker of a Strategy or an Account needs its name", ".name"),
            rule("self == oldSelf", "the target cannot be changed; make another breaker"),
        ),
    )
    return group(
        "How it should behave.",
        {
            "target": target,
            "failureThreshold": integer("Failures within the window that open it.", 1, 10_000, default=5),
            "windowSeconds": integer("Length of the window; s.", 1, 86_400, default=30),
            "openSeconds": integer("How long it stays open before it probes; s.", 1, 86_400, default=30),
            "halfOpenProbes": integer("Successes in a row that close it again.", 1, 100, default=3),
            "forced": choice(
                "Hold it open or closed, whatever happens; take the field away to let go.", "Open", "Closed"
            ),
            "reason": text("Why it is forced; shown to everybody.", maxLength=1024),
            "resetAt": moment("Change this moment to reset it once (closed, window empty)."),
        },
        required=("target",),
    )


def _breaker_status() -> dict[str, Any]:
    transition = group(
        "One change of state.",
        {
            "at": moment("When."),
            "from": text("State before."),
            "to": text("State after."),
            "reason": text("Why.", maxLength=1024),
        },
    )
    breaker = group(
        "One process's breaker.",
        {
            "name": text("Its name in the bucket; of a replica with the pod's name."),
            "state": choice("State.", "Closed", "Open", "HalfOpen"),
            "failures": integer("Failures in the window.", 0, 2**53),
            "reason": text("Why it is as it is.", maxLength=1024),
        },
    )
    return group(
        "What is: a copy of the breakers bucket, which decides.",
        {
            "observedGeneration": integer("Generation that this status belongs to.", 0, 2**53),
            "state": choice("State.", "Closed", "Open", "HalfOpen"),
            "forced": text("What the bucket holds as forced."),
            "failures": integer("Failures in the window.", 0, 2**53),
            "reason": text("Why it is as it is.", maxLength=1024),
            "openedAt": moment("When it opened."),
            "nextProbeAt": moment("When it will try again."),
            "resetAt": moment("The last reset that was carried out."),
            "breakers": many("Each breaker of the target: one a process that stands before it.", breaker, 100),
            "transitions": many("The newest changes, newest last.", transition, 20),
            "conditions": conditions(),
        },
    )


def trading_account() -> dict[str, Any]:
    """The TradingAccount resource."""
    secret = group(
        "A Secret of the same namespace with the keys api-key and api-secret.",
        {"name": text("Its name.", pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")},
        required=("name",),
    )
    limits = group(
        "Bounds of the whole account, carried over to the limits bucket, where execution and risk follow them.",
        {
            "maxPositionNotional": decimal("Most one position may be worth; quote currency."),
            "maxExposure": decimal("Most all positions may be worth together; quote currency."),
            "maxOrderNotional": decimal("Most one order may be worth; quote currency."),
            "maxDailyDrawdown": text(
                "Fall from the day's highest equity that halts; a share of it, for example 0.05.",
                pattern=r"^(0?\.[0-9]{1,6}|0|1)$",
                maxLength=10,
            ),
            "maxLeverage": integer("Most leverage.", 1, 125),
        },
    )
    spec = group(
        "What should be.",
        {
            "venue": text("Name of the venue.", default="binance"),
            "secretRef": secret,
            "limits": limits,
            "marginMode": choice(
                "Margin of its positions, for people: it is set at the venue.", "Cross", "Isolated", default="Cross"
            ),
            "positionMode": choice(
                "One position per symbol, or a long and a short one; for people: execution asks the venue.",
                "OneWay",
                "Hedge",
                default="OneWay",
            ),
        },
        required=("secretRef",),
        rules=(rule("self.venue == oldSelf.venue", "an account cannot move to another venue", ".venue"),),
    )
    status = group(
        "What is.",
        {
            "observedGeneration": integer("Generation that this status belongs to.", 0, 2**53),
            "equity": signed_decimal("Quote currency."),
            "dailyPnl": signed_decimal("Quote currency, since midnight UTC."),
            "drawdown": signed_decimal("Fall from the day's highest equity, as a share of it."),
            "lastSnapshotTime": moment("When the account service told this."),
            "halted": flag("Whether trading is halted."),
            "limits": group("The limits that were carried over last.", dict(limits["properties"])),
            "conditions": conditions(),
        },
    )
    schema = resource("TradingAccount is an account at a venue.", spec, status)
    columns = [
        column("Venue", ".spec.venue"),
        column("Equity", ".status.equity"),
        column("Day", ".status.dailyPnl"),
        column("Halted", ".status.halted", "boolean"),
        column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        column("Age", ".metadata.creationTimestamp", "date"),
        column("Synced", ".status.conditions[?(@.type=='Synced')].status", wide=True),
        column("Drawdown", ".status.drawdown", wide=True),
        column("Secret", ".spec.secretRef.name", wide=True),
    ]
    return definition("TradingAccount", "tradingaccounts", ("ta",), schema, columns)


def all_definitions() -> dict[str, dict[str, Any]]:
    """Every definition by the name of its file."""
    made = (strategy(), circuit_breaker(), trading_account())
    return {f"{d['spec']['names']['plural']}.yaml": d for d in made}
