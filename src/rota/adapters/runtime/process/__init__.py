"""Replicas as processes of this machine: ProcessRuntime, and the keeper's Children for whoever else starts some."""

from rota.adapters.runtime.process.keeper_client import Child, ChildOrder, Children, Refused
from rota.adapters.runtime.process.keeper_launch import KeeperLost, ensure_keeper
from rota.adapters.runtime.process.runtime import ProcessRuntime, daemon_path

__all__ = [
    "Child",
    "ChildOrder",
    "Children",
    "KeeperLost",
    "ProcessRuntime",
    "Refused",
    "daemon_path",
    "ensure_keeper",
]
