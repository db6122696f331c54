"""Replicas as containers of a Docker engine."""

from rota.adapters.runtime.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
