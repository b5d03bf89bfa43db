"""A page of the admin that is asked for by a wrong method tells the right ones."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Desk


@pytest.mark.parametrize(("path", "allowed"), [("/", {"GET", "HEAD"}), ("/book/edit?pk=1", {"GET", "HEAD", "POST"})])
def test_a_wrong_method_is_told_with_those_that_are_right(login_desk: Desk, path: str, allowed: set[str]) -> None:
    answer = login_desk.client.options(f"/admin{path}")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
