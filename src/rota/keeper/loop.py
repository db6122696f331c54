"""The keeper's one thread: descriptors, timers and signals, each with what it wakes."""

import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress

Wake = Callable[[], None]


class Timer:
    """Something to do once, later, unless cancelled."""

    def __init__(self, wake: Wake) -> None:
        self._wake: Wake | None = wake

    def cancel(self) -> None:
        """It will not happen."""
        self._wake = None

    def fire(self) -> None:
        """It happens now, if not cancelled."""
        if self._wake is not None:
            self._wake()


class Loop:
    """Runs what is ready until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Wake] = {}
        self._running = True
        self._signal_pipe, write = os.pipe()
        os.set_blocking(self._signal_pipe, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.watch(self._signal_pipe, self._on_signals)

    def watch(self, descriptor: int, wake: Wake, events: int = selectors.EVENT_READ) -> None:
        """Call `wake` whenever the descriptor is ready for `events`; replaces an earlier watch of it."""
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, wake)
        else:
            self._selector.register(descriptor, events, wake)

    def unwatch(self, descriptor: int) -> None:
        """To be called before the descriptor is closed; nothing happens when it is not watched."""
        with suppress(KeyError):
            self._selector.unregister(descriptor)

    def after(self, seconds: float, wake: Wake) -> Timer:
        """Call `wake` once, `seconds` from now."""
        timer = Timer(wake)
        heapq.heappush(self._timers, (self.time() + seconds, next(self._order), timer))
        return timer

    def on_signal(self, number: int, wake: Wake) -> None:
        """Call `wake` in the loop, not inside whatever the signal interrupts."""
        self._signals[number] = wake
        signal.signal(number, lambda *_: None)

    def time(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def stop(self) -> None:
        """Return from `run` after the current round."""
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        while self._running:
            for key, _ in self._selector.select(self._patience()):
                # An earlier wake of this round may have closed this one, its number being another's by now.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._fire_timers()

    def _patience(self) -> float | None:
        return max(0.0, self._timers[0][0] - self.time()) if self._timers else None

    def _fire_timers(self) -> None:
        moment = self.time()
        while self._timers and self._timers[0][0] <= moment:
            heapq.heappop(self._timers)[2].fire()

    def _on_signals(self) -> None:
        for number in set(os.read(self._signal_pipe, 4096)):
            if wake := self._signals.get(number):
                wake()
