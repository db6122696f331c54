"""Replicas as processes of this machine, children of the keeper."""

from rota.adapters.runtime.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
