"""The bounds of a call: requests a minute, waits that the server asks for, and money."""

import threading
import time

__all__ = ["Budget", "Pace"]

FIRST_RATIO = 0.5
"""Tokens of a byte before any were counted: above those of most texts, so that a ceiling holds."""


class Pace:
    """Starts requests no faster than a rate, and none while the server asks to wait.

    rate: requests a minute; None: as many as come.
    """

    def __init__(self, rate: float | None) -> None:
        self.gap = 60 / rate if rate else 0.0
        self.next = 0.0  # on the monotonic clock
        self.lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Waits for the next turn; False: it was stopped."""
        with self.lock:
            now = time.monotonic()
            turn = max(now, self.next)
            self.next = turn + self.gap
        return not stop.wait(turn - now)

    def hold(self, seconds: float) -> None:
        """Starts no request for so long."""
        with self.lock:
            self.next = max(self.next, time.monotonic() + seconds)


class Budget:
    """The money spent, and what requests in flight may cost at most.

    price_in, price_out: of a million tokens; None: not known. most: ceiling; None: none. spent: by earlier calls.
    """

    def __init__(
        self, price_in: float | None, price_out: float | None, most: float | None, spent: tuple[int, int] = (0, 0)
    ) -> None:
        self.price_in, self.price_out, self.most = price_in, price_out, most
        self.known = price_in is not None or price_out is not None
        self.spent, self.aside, self.flying = self.price(*spent), 0.0, 0
        self.ratio, self.measured = FIRST_RATIO, False
        self.tokens_in = self.tokens_out = 0
        self.room = threading.Condition()

    def price(self, tokens_in: float, tokens_out: float) -> float:
        return (tokens_in * (self.price_in or 0) + tokens_out * (self.price_out or 0)) / 1e6

    def reserve(self, size: int, most_out: int) -> float | None:
        """The most that a request may cost, set aside; None: the ceiling has no room for it.

        Requests in flight cost less than was set aside for them: they are waited for before None is given.

        size: bytes of the question; most_out: tokens of the answer at most.
        """
        with self.room:
            while True:
                cost = self.price(size * self.ratio, most_out)
                if self.most is None or self.spent + self.aside + cost <= self.most:
                    self.aside += cost
                    self.flying += 1
                    return cost
                if not self.flying:
                    return None
                self.room.wait()

    def words(self) -> str:
        return f"{self.spent:,.4f} is spent, and the next request could pass --max-price {self.most}; raise it to go on"

    def settle(self, reserved: float, size: int = 0, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Counts an answer in the place of its reservation; without tokens, a request that failed."""
        with self.room:
            self.aside, self.flying = self.aside - reserved, self.flying - 1
            self.spent += self.price(tokens_in, tokens_out)
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
            if size and tokens_in:
                ratio = tokens_in / size
                self.ratio = max(self.ratio, ratio) if self.measured else ratio
                self.measured = True
            self.room.notify_all()
