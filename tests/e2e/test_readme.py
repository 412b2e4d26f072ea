"""The README's first five minutes, run as they stand there, so that they cannot rot."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local.dynamodb_local import PROJECT
from local.seed import seed
from local.stack import Stack, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]

SECTION = "The first five minutes"
RUN_AS = {"bash": "bash", "sh": "bash", "shell": "bash", "python": "python"}
OUTPUTS = {"", "json", "text", "console"}
END = "--- the end of a block ---"
_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """What the section lets one type, and what it says will come of it."""

    language: str
    text: str
    shown: str


@pytest.fixture
def fresh() -> Iterator[Stack]:
    """As `make dev` leaves it to a new user, but that Stripe sums up at once."""
    with running_stack(free_ports=True, summary_delay_s=0) as stack:
        seed(stack.api_url, stack.stripe_url)
        yield stack


def section() -> str:
    readme = (PROJECT / "README.md").read_text()
    _, _, rest = readme.partition(f"\n## {SECTION}\n")
    return rest.partition("\n## ")[0]


def blocks() -> Iterator[Block]:
    """The blocks to run, each with the output block that follows it."""
    fences = [(found["language"], found["text"]) for found in _FENCE.finditer(section())]
    for (language, text), (after, output) in zip(fences, [*fences[1:], ("none", "")], strict=True):
        if language in RUN_AS and not text.startswith("make "):
            yield Block(RUN_AS[language], text, output if after in OUTPUTS else "")


def script(stack: Stack) -> str:
    """All blocks as one script; between them the stack does what it does by itself in a while."""
    control = f"curl -sf -X POST {stack.api_url}/_local"
    meanwhile = f"{{ {control}/drain && {control}/run/writer; }} >/dev/null"
    parts = []
    for block in blocks():
        text = block.text
        if block.language == "python":
            text = f"{sys.executable} - <<'PROGRAM'\n{text}PROGRAM\n"
        parts.append(f"{text}\necho; echo '{END}'\n{meanwhile}\n")
    whole = "set -eu\n" + "".join(parts)
    for written, here in [
        (r"(127\.0\.0\.1|localhost):3000", stack.api_url.removeprefix("http://")),
        (r"(127\.0\.0\.1|localhost):12111", stack.stripe_url.removeprefix("http://")),
        (r"\.venv/bin/python", sys.executable),
    ]:
        whole = re.sub(written, here, whole)
    return whole


def test_the_first_five_minutes_go_as_the_readme_says(fresh: Stack) -> None:
    environment = os.environ | {"NO_PROXY": "127.0.0.1,localhost", "PYTHONWARNINGS": "ignore"}

    run = subprocess.run(
        ["bash", "-c", script(fresh)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    came = run.stdout.split(f"{END}\n")[:-1]
    said = list(blocks())
    assert len(came) == len(said) >= 5
    for block, output in zip(said, came, strict=True):
        assert block.shown, f"the README does not say what comes of\n{block.text}"
        assert stands_in(output, block.shown), (
            f"{block.text}\ncame to\n{output}\nand not, as the README says, to\n{block.shown}"
        )


# --- comparing outputs ----------------------------------------------------------------------------

_CHANGING = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?", "TIME"),
    (r"\d{4}-\d\d(-\d\d)?(?!\d)", "DATE"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\b(req|rec|evt|mtr|price|sm)_\w+", "ID"),
    (r"\b[0-9a-f]{12,}\b", "ID"),
    (r'"identifier":\s*"[^"]*"', '"identifier":"ID"'),
    (r'"requestId":\s*"[^"]*"', '"requestId":"ID"'),
    (r'"behindSeconds":\s*[\d.]+', '"behindSeconds":0'),
    (r"\s+", ""),
)
_MORE_MAY_COME = re.compile(r"(?<=[{,])|\.\.\.|…")


def stands_in(output: str, shown: str) -> bool:
    """Whether all that is shown came, in that order; the README leaves out fields.

    Times, identifiers and white space may differ.
    """
    parts = map(re.escape, _MORE_MAY_COME.split(unchanging(shown)))
    return re.search(".*?".join(parts), unchanging(output)) is not None


def unchanging(text: str) -> str:
    for changing, word in _CHANGING:
        text = re.sub(changing, word, text)
    return text


def test_outputs_agree_but_for_what_changes_from_run_to_run() -> None:
    shown = '{"accepted": 1, "requestId": "a", "ts": "2026-11-20T12:00:00Z", "results": [...]}'
    came = '{"accepted":1,"requestId":"b","ts":"2027-01-02T03:04:05.678Z","results":[{"a":1}]}\n'

    assert stands_in(came, shown)
    assert not stands_in(came.replace('"accepted":1', '"accepted":2'), shown)
    assert not stands_in(came, shown.replace("[...]", "[]"))
    assert not stands_in('{"b":2,"a":1}', '{"a":1,"b":2}')
    assert stands_in('{"a":1,"new":3,"b":2}', '{"a":1,"b":2}')


def test_only_what_one_types_is_run() -> None:
    assert [block.language for block in blocks()].count("bash") >= 4
