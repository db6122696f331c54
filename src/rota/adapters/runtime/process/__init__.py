"""Replicas as processes of this machine, children of the keeper."""

from rota.adapters.runtime.process.runtime import ProcessRuntime, daemon_path

__all__ = ["ProcessRuntime", "daemon_path"]
