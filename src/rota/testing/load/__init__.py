"""The load generator that shows whether requests are lost; tests, the demo and benchmarks run it."""

from rota.testing.load.plan import LoadPlan, PathKind
from rota.testing.load.process import LoadProcess, LoadProcessError
from rota.testing.load.report import Count, LoadReport, LostRequest, Percentiles, Seen, WebSocketReport
from rota.testing.load.run import LoadRun, run_load

__all__ = [
    "Count",
    "LoadPlan",
    "LoadProcess",
    "LoadProcessError",
    "LoadReport",
    "LoadRun",
    "LostRequest",
    "PathKind",
    "Percentiles",
    "Seen",
    "WebSocketReport",
    "run_load",
]
