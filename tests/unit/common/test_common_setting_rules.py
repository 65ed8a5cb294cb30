"""The generated rules say what the settings classes say."""

from __future__ import annotations

import pytest

from common.contracts.settings import LIVE_SETTINGS
from common.setting_names import SECRET_NAMES, SETTING_NAMES, SETTING_RULES
from common.setting_rules import rule_problem
from common.telemetry import set_log_level


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("DOWNLOAD_CONCURRENCY", "64", "650"),
        ("UPLOAD_ABANDON_HOURS", "0.5", "-7"),
        ("ALLOW_PRIVATE_ADDRESSES", "true", "perhaps"),
        ("MAX_FILE_SIZE", "4GiB", "large"),
        ("RECOVERY", "pause", "stop"),
        ("UMASK", "022", "0o22"),
        ("HISTORY_DAYS", "", "1.5"),
    ],
)
def test_a_value_is_judged_without_its_service(name: str, good: str, bad: str) -> None:
    assert rule_problem(name, good) is None
    words = rule_problem(name, bad)
    assert words and bad not in words


def test_every_rule_and_secret_is_a_setting_and_no_secret_is_live() -> None:
    assert SETTING_RULES.keys() | SECRET_NAMES | LIVE_SETTINGS <= SETTING_NAMES
    assert not SECRET_NAMES & LIVE_SETTINGS


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="debug, info, warning or error"):
        set_log_level("shout")
