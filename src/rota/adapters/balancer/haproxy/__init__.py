"""The Balancer port on HAProxy 2.6 and later; built by the composition root with ``HaproxyBalancer``."""

from rota.adapters.balancer.haproxy.balancer import HaproxyBalancer
from rota.adapters.balancer.haproxy.binary import Binary, find
from rota.adapters.balancer.haproxy.launcher import Launcher, Run
from rota.adapters.balancer.haproxy.settings import Settings

__all__ = ["Binary", "HaproxyBalancer", "Launcher", "Run", "Settings", "find"]
