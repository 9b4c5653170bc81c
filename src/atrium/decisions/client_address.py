"""Who a request really comes from, when proxies that are trusted stand in between. Source: `olla.md`, section 11.1."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from atrium.core.errors import ConfigError

Network = IPv4Network | IPv6Network
MOST_HOPS = 32
HOUSEHOLD = 64
"""Bits of an IPv6 address that a provider gives out as one; the rest is its holder's to choose."""


def read_networks(given: Sequence[str]) -> tuple[Network, ...]:
    """Raises ConfigError."""
    networks: list[Network] = []
    for text in given:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise ConfigError(f"trusted_proxies: '{text[:100]}' is no address or network") from None
    return tuple(networks)


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    try:
        own = ip_address(address)
    except ValueError:
        return False
    return any(own in network for network in networks)


def client_address(peer: str, forwarded: bytes, networks: Sequence[Network]) -> str:
    """The peer, unless it is trusted: then the right-most address of `X-Forwarded-For` that is not."""
    if not networks or not forwarded or not is_trusted(peer, networks):
        return peer
    hops = [hop.strip() for hop in forwarded.decode("latin-1").split(",")][-MOST_HOPS:]
    for hop in reversed(hops):
        try:
            known = str(ip_address(hop.removeprefix("[").partition("]")[0]))
        except ValueError:
            return peer
        if not is_trusted(known, networks):
            return known
        peer = known
    return peer


def household(address: str) -> str:
    """What is counted as one address: of IPv6 the network, since its holder has more addresses than can be counted."""
    if ":" not in address:
        return address
    try:
        own = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(own, IPv6Address):
        return str(own)
    return str(own.ipv4_mapped or ip_network((own, HOUSEHOLD), strict=False))
