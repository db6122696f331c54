"""Rota: several replicas of an app behind a load balancer, changed one at a time."""

__version__ = "0.1.0"
