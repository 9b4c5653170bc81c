"""One shop for all tests that leave it as it was, or use stores of their own."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.stores.shop import Shop, opened


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with opened(tmp_path_factory.mktemp("shop") / "data") as one:
        yield one
