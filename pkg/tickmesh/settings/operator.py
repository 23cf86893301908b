"""Keys of the Kubernetes operator."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class OperatorSettings(Section):
    namespace: str = key("default", "Namespace whose resources it looks after; one operator installation each.")
    admin_port: int = key(17510, "Port of /healthz, /readyz, /startupz and /metrics.", ge=0, le=65535)
    installation_file: str = key(
        "", "JSON file with what Strategy pods are made from (image, config map, resources); the chart writes it."
    )
    image: str = key("", "Image of Strategy pods that name none; empty: the installation's.")
    lease_name: str = key("tickmesh-operator", "Name of the Lease that elects the one that acts.")
    lease_ttl_ms: int = key(8000, "Time after which a silent leader is replaced.", unit="ms", ge=2000, le=60000)
    webhook_port: int = key(0, "Port of the admission webhook; 0 for none.", ge=0, le=65535)
    webhook_host: str = key("", "Host name that the API server calls the webhook by (the Service's).")
    webhook_secret: str = key("tickmesh-webhook", "Secret that holds the webhook's certificate.")
    webhook_configuration: str = key(
        "",
        "ValidatingWebhookConfiguration that is there already and gets our certificate's CA; empty: kopf makes one.",
    )
    watch_server_timeout_s: int = key(
        60, "After this long the API server ends a watch; a silent one cannot last longer.", unit="s", ge=1, le=600
    )
    watch_client_timeout_s: int = key(
        70, "After this long we end a watch ourselves, in case the server's end was lost.", unit="s", ge=2, le=660
    )
