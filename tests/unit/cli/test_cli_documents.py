"""What the documents tell people to type exists, and what is generated is current."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.app import app

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TOOLS = re.compile(r"docker compose run (?:--rm|-v \S+| )+ tools +([^`\n]*)")


def commands(text: str) -> list[list[str]]:
    """The words after `music-cloud`, up to a comment, a pipe, or an ellipsis."""
    found = []
    for match in [*re.finditer(r"(?:`|^[ \t]*)music-cloud +([^`\n]*)", text, re.MULTILINE), *_TOOLS.finditer(text)]:
        line = re.split(r"\s#|\s\||;|&&|\\$", match.group(1))[0]
        words = shlex.split(line.replace("…", "..."))
        if words and words[0].endswith(","):
            found += [[word.strip(",")] for word in words]  # a list of commands in a sentence
        else:
            found.append([word for word in words if word != "..."])
    return found


def check(words: list[str]) -> str | None:
    """What is wrong with a command line; None when each name and option in it exists."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="music-cloud")
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-"):
            known = {name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)}
            option = next((one for one in command.get_params(context) if word.split("=")[0] in one.opts), None)
            if word.split("=")[0] not in known:
                return f"{context.command_path} has no option {word}"
            if option is not None and not getattr(option, "is_flag", False) and "=" not in word and rest:
                rest.pop(0)
        elif hasattr(command, "get_command"):
            inner = command.get_command(context, word)
            if inner is None:
                return f"{context.command_path} has no command {word}"
            command, context = inner, inner.context_class(inner, info_name=word, parent=context)
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_command_of_a_document_exists(document: Path) -> None:
    wrong = [(words, said) for words in commands(document.read_text()) if (said := check(words)) is not None]
    assert wrong == []


def test_the_check_finds_commands_and_what_is_wrong_with_them() -> None:
    runbook = commands((ROOT / "docs/runbook.md").read_text())
    assert len(runbook) > 25
    assert ["jobs", "retry", "7", "--item", "12", "--force"] in runbook
    assert check(["jobs", "forget", "7"]) == "music-cloud jobs has no command forget"
    assert check(["backup", "--upwards"]) == "music-cloud backup has no option --upwards"
    assert check(["jobs", "retry", "7", "--item", "12", "--force"]) is None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    lost = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            lost.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}
            if anchor not in anchors:
                lost.append(target)
    assert lost == []


def test_the_table_of_metrics_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate-metrics"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr
