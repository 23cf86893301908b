"""The operator's shells: queue, API client, election, reconcilers. ``tickmesh.kube`` decides; kopf only watches."""
