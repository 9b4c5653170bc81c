"""Which addresses a request may have fetched."""

from __future__ import annotations

import pytest

from atrium.decisions.judge_address import refused_address


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_may_be_fetched_from(address: str) -> None:
    assert refused_address(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1", "::ffff:10.0.0.1"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9", "2001:db8::1"),
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "168.63.129.16", "fd00:ec2::254"),
        *("192.0.0.192", "fec0::1"),
        *("0.0.0.1", "0.1.2.3", "::", "224.0.0.1", "239.255.255.250", "ff02::1", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_all_others_are_refused_with_a_reason(address: str) -> None:
    assert refused_address(address)
