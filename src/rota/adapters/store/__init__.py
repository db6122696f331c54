"""Keeps rota's durable state in one SQLite file; made by the composition root, used by the engine through its port."""

from rota.adapters.store.sqlite import SqliteStore

__all__ = ["SqliteStore"]
