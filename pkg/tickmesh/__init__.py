"""tickmesh: high-frequency trading for crypto futures, as pods on Kubernetes or on one laptop."""

__version__ = "0.1.0"
