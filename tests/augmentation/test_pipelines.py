import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uda.augmentation import pipelines
from uda.augmentation.pipelines import Pipelines, escape, unescape
from uda.errors import UserError

# Turns records into capitals. It dies of a text with "die", hangs on one with "hang", cuts one with "cut" short and, if
# there is a file of that name to remove, dies once of one with "once".
STAGE = """
import os, sys, time
records = b""
while received := os.read(0, 65536):
    records += received
    while b"\\0" in records:
        record, _, records = records.partition(b"\\0")
        if b"die" in record:
            os.write(1, record[:2])
            sys.exit(1)
        if b"hang" in record:
            time.sleep(3600)
        if b"cut" in record:
            record = record[:2]
        if b"once" in record and os.path.exists(sys.argv[1]):
            os.remove(sys.argv[1])
            sys.exit(1)
        answer = record.upper() + b"\\0"
        while answer:
            answer = answer[os.write(1, answer):]
"""


MEET = """\
        if b"meet" in record:
            open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
            while len(os.listdir(sys.argv[1])) < 4:
                time.sleep(0.01)
"""


@pytest.fixture
def stages(tmp_path: Path) -> list[list[str]]:
    """Three programs in a row, the first and last of which pass on what they get."""
    (tmp_path / "stage.py").write_text(STAGE)
    return [["cat"], [sys.executable, "-S", str(tmp_path / "stage.py"), str(tmp_path / "once")], ["cat"]]


@pytest.fixture
def pool(stages: list[list[str]]) -> Iterator[Pipelines]:
    """Two such pipelines with two seconds for each text."""
    two = Pipelines(stages, size=2, seconds=2.0)
    yield two
    two.close()


def test_texts_come_back_one_for_one(pool: Pipelines) -> None:
    texts = [f"text {number}" for number in range(500)]
    assert pool.translate(texts) == [text.upper() for text in texts]
    assert pool.translate(texts[::-1]) == [text.upper() for text in texts[::-1]]
    assert pool.translate([]) == []


def test_nasty_texts(pool: Pipelines) -> None:
    texts = [
        "",
        " ",
        "\n",
        "a\nb\r\n",
        "<b>[x]</b> {y} ^z$ a/b \\ @ [5]",
        "\U0001f600 \xad\ufeff",
        "e" * 400_000,
        "\\",
        "[]",
    ]
    assert pool.translate(texts) == [text.upper() for text in texts]
    assert pool.translate(["a\0b", "\0"]) == ["AB", ""]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "reason"),
    [("die", "died"), ("hang", "gave no answer in time"), ("cut", "broke off its answer")],
)
def test_a_text_that_breaks_a_translator_is_named_and_the_rest_goes_on(
    pool: Pipelines, word: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {number}" for number in range(60)]
    texts[20] = f"this will\n{word} " + "x" * 200
    results = pool.translate(texts)
    assert results == [None if number == 20 else text.upper() for number, text in enumerate(texts)]
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"a translator {reason}, so a text stays as it is: '{f'this will {word} xxxxxxxxxx'.ljust(80, 'x')}'"
    )
    assert pool.translate(["and on"]) == ["AND ON"]


def test_an_accident_is_no_texts_fault(pool: Pipelines, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "once").touch()
    assert pool.translate(["a", "once", "b"]) == ["A", "ONCE", "B"]
    assert not (tmp_path / "once").exists()
    assert not caplog.records


def test_programs_that_were_killed_between_two_calls_are_started_again(pool: Pipelines) -> None:
    assert pool.translate(["a"]) == ["A"]
    for pipeline in pool._running:
        pipeline.programs[1].kill()
    assert pool.translate(["b", "c", "d"]) == ["B", "C", "D"]


def test_the_programs_live_on_between_calls_and_end_with_close(pool: Pipelines) -> None:
    pool.translate(["a"])
    programs = [psutil.Process(program.pid) for pipeline in pool._running for program in pipeline.programs]
    pool.translate(["b"])
    assert [program.pid for pipeline in pool._running for program in pipeline.programs] == [one.pid for one in programs]
    assert len(programs) == 6
    pool.close()
    assert not any(program.is_running() for program in programs)


def test_programs_end_when_their_owner_is_killed(stages: list[list[str]]) -> None:
    code = (
        "import sys, time; from uda.augmentation.pipelines import Pipelines; pool = Pipelines(eval(sys.argv[1]), 1, 5);"
        "pool.translate(['a']); print(*(one.pid for one in pool._running[0].programs), flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, repr(stages)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    programs = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
    owner.kill()
    owner.communicate()
    assert len(programs) == 3
    _, alive = psutil.wait_procs(programs, timeout=10)
    assert all(program.status() == psutil.STATUS_ZOMBIE for program in alive)


@pytest.mark.parametrize(
    ("broken", "seconds", "said"),
    [
        ("echo no such dictionary >&2; exit 1", 60, "died at an empty text: no such dictionary. Install"),
        ("sleep 60", 0.5, "gave no answer in time at an empty text: it printed no reason. Install"),
    ],
)
def test_a_translator_that_never_answers(
    broken: str, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines, "_START_SECONDS", seconds)
    pool = Pipelines([["sh", "-c", broken]], size=2, seconds=seconds)
    with pytest.raises(UserError) as caught:
        pool.translate(["a"])
    assert said in str(caught.value)
    assert not pool._running


def test_all_pipelines_work_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers when every one of them has been asked."""
    (tmp_path / "met").mkdir()
    meeting = tmp_path / "meeting.py"
    meeting.write_text(STAGE.replace("        answer = record", MEET + "        answer = record"))
    monkeypatch.setattr(pipelines._Work, "give_back", lambda self, pipeline, failure: pytest.fail(failure))
    pool = Pipelines([[sys.executable, "-S", str(meeting), str(tmp_path / "met")]], size=4, seconds=60.0)
    assert pool.translate([f"meet {number}" for number in range(4)]) == [f"MEET {number}" for number in range(4)]
    assert len(list((tmp_path / "met").iterdir())) == 4
    pool.close()


@given(st.text())
def test_escapes_are_undone(text: str) -> None:
    escaped = escape(text)
    assert "\0" not in escaped
    assert unescape(escaped) == text.replace("\0", "")
