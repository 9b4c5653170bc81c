"""Which addresses may be fetched from because a request says so. Source: contract `localai.md`, section 9."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""IPv6 networks whose last 32 bits are an IPv4 address."""
CLOUD = frozenset({IPv4Address("168.63.129.16")})
"""Public addresses at which a cloud's machines find their own secrets."""


def refused_address(text: str) -> str:
    """Why nothing is fetched from this address for a caller; empty where it may be.

    `text` is an address as the resolver gives it, so every other spelling of it has been undone.
    """
    address = meant(ip_address(text.partition("%")[0]))
    if address in CLOUD or address.is_link_local:
        return "it is a machine's own or a cloud's"
    if address.is_loopback:
        return "it is this machine"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "it is no machine's"
    return "" if address.is_global else "it is in a private network"


def meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address within an IPv6 one, where there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if int(address) > 1 and any(address in network for network in TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
