"""Probes of replicas: SocketProber."""

from rota.adapters.prober.prober import SocketProber

__all__ = ["SocketProber"]
