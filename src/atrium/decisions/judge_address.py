"""Which addresses may be fetched from because a request says so. Source: contract `localai.md`, section 9."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
"""IPv6 networks whose last 32 bits are an IPv4 address."""
OWN = tuple(ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
"""Private networks that people have machines of their own in."""
INNER = (IPv4Network("192.0.0.0/24"), IPv6Network("fec0::/10"))
"""Networks of a site's own, or of a cloud's, that no list of private ones has."""
CLOUD = frozenset({ip_address("168.63.129.16"), ip_address("100.100.100.200"), ip_address("fd00:ec2::254")})
"""Addresses outside of the link-local ones at which a cloud's machines find their own secrets."""


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
    inner = any(address in network for network in INNER)
    return "" if address.is_global and not inner else "it is in a private network"


def refused_for_install(text: str, *, led: bool) -> str:
    """The same for what an administrator installs, who may fetch from the own network. `led`: from a public machine."""
    address = meant(ip_address(text.partition("%")[0]))
    own = address not in CLOUD and (address.is_loopback or any(address in network for network in OWN))
    return "" if own and not led else refused_address(text)


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
