"""What a setting of any service must be, without that service: the kinds and limits that its class declares."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from common.env_file import words_of
from common.setting_names import SETTING_RULES

_KINDS: dict[object, Any] = {"int": int, "float": float, "bool": bool, "size": ByteSize, "text": str}


def rule_problem(name: str, value: str) -> str | None:
    """Why ``value`` cannot be that of the setting ``name``, without repeating it; None where it can."""
    if not value or name not in SETTING_RULES:
        return None
    try:
        _judge(name).validate_python(value)
    except ValidationError as error:
        return words_of(error.errors(include_url=False, include_input=False, include_context=False)[0])
    return None


@cache
def _judge(name: str) -> TypeAdapter[Any]:
    rule: dict[str, Any] = dict(SETTING_RULES[name])
    kind = rule.pop("kind")
    if kind == "float":
        rule["allow_inf_nan"] = False
    form: Any = Literal[rule["values"]] if kind == "choice" else Annotated[_KINDS[kind], Field(**rule)]
    return TypeAdapter(form)
