"""What stands between a profile and its bill."""

import io

import pytest

from maple.config import params
from maple.core.errors import MapleError
from stages import confirm


@pytest.fixture(autouse=True)
def nobody_at_the_terminal(monkeypatch):
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())


def test_the_paper_s_plan_is_shown_before_anybody_is_asked(capsys):
    with pytest.raises(MapleError, match="nobody to ask whether to start"):
        confirm.main(params.load("paper"), None)
    assert "120 cells" in capsys.readouterr().out


def test_yes_answers_for_a_script_and_smoke_asks_nothing(capsys, monkeypatch):
    confirm.main(params.load("smoke"), None)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("YES", "1")
    confirm.main(params.load("paper"), None)
