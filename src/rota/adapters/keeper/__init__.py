"""The keeper as the daemon reaches it: the children it has, and the keeper itself started when there is none."""

from rota.adapters.keeper.client import Child, ChildOrder, Children, Refused
from rota.adapters.keeper.launch import KeeperLost, ensure_keeper

__all__ = ["Child", "ChildOrder", "Children", "KeeperLost", "Refused", "ensure_keeper"]
