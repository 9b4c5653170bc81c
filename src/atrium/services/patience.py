"""Whoever guesses passwords is slowed down, by name and by address, and strangers lock nobody out of their account.

Three books, all bounded: wrong tries of a name from an address, of an address whatever the names, and of a name
wherever they come from. The last one takes free tries away and makes nobody wait by itself: who is right at the first
try comes in, however many strangers guess at their name. Who was right from an address before is not held up by what
others behind the same address, a proxy's perhaps, do with other names.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from atrium.core.errors import RateLimited
from atrium.decisions.client_address import household
from atrium.decisions.slow_down import FREE_TRIES, Tries, is_hot, one_more, wait_before

MOST_REMEMBERED = 10_000
FREE_FOR_AN_ADDRESS = 20
"""Wrong passwords from one address, whatever the names, before all of its logins are slowed."""
FREE_SIGNUPS = 10


class Kind(Enum):
    NAME = "a name, from an address"
    ADDRESS = "an address, whatever the names"
    ANYWHERE = "a name, wherever from"
    SIGNUP = "signing up, from an address"


Who = tuple[Kind, str, str]


class Patience:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[Who, Tries] = OrderedDict()
        self._welcome: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Names, and the addresses that they came in from."""

    def before_login(self, name: str, address: str) -> None:
        """Notes a try before it is made, so that many at once count as many. Raises RateLimited."""
        name, home = folded(name), household(address)
        anywhere: Who = (Kind.ANYWHERE, name, "")
        hot = is_hot(self._tries.get(anywhere, Tries()), self._clock())
        self._take((Kind.NAME, name, home), 1 if hot else FREE_TRIES)
        if (name, home) not in self._welcome:
            self._take((Kind.ADDRESS, "", home), FREE_FOR_AN_ADDRESS)
            self._note(anywhere)

    def after_login(self, name: str, address: str) -> None:
        """The password was right: the try was none."""
        name, home = folded(name), household(address)
        self._tries.pop((Kind.NAME, name, home), None)
        if (name, home) not in self._welcome:
            self._give_back((Kind.ADDRESS, "", home))
            self._give_back((Kind.ANYWHERE, name, ""))
        self._welcome[(name, home)] = None
        self._welcome.move_to_end((name, home))
        if len(self._welcome) > MOST_REMEMBERED:
            self._welcome.popitem(last=False)

    def before_change(self, name: str, address: str) -> None:
        """Of a password, whose current one is asked for. Raises RateLimited."""
        self._take((Kind.NAME, folded(name), household(address)), FREE_TRIES)

    def after_change(self, name: str, address: str) -> None:
        self._tries.pop((Kind.NAME, folded(name), household(address)), None)

    def before_signup(self, address: str) -> None:
        """Raises RateLimited."""
        self._take((Kind.SIGNUP, "", household(address)), FREE_SIGNUPS)

    def _take(self, who: Who, free: int) -> None:
        if wait := wait_before(self._tries.get(who, Tries()), self._clock(), free):
            seconds = math.ceil(wait)
            raise RateLimited("Too many tries", hint=f"Try again in {seconds} s", retry_after=seconds)
        self._note(who)

    def _note(self, who: Who) -> None:
        self._tries[who] = one_more(self._tries.get(who, Tries()), self._clock())
        self._tries.move_to_end(who)
        if len(self._tries) > MOST_REMEMBERED:
            self._tries.popitem(last=False)

    def _give_back(self, who: Who) -> None:
        if tries := self._tries.get(who):
            self._tries[who] = Tries(tries.count - 1, tries.at)


def folded(name: str) -> str:
    return name.casefold()[:64]
