"""The method against servers on this machine that answer well, badly, late or never."""

import email.utils
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from uda.augmentation import chat
from uda.augmentation.llm import LanguageModel
from uda.errors import UserError

Reply = tuple[int, dict[str, str], bytes]
YAML = Path(__file__).parents[2] / "configs" / "augment" / "llm.yaml"


def completion(text: str | None, reason: str = "stop", tokens: int = 10, **message: Any) -> Reply:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
    return 200, {}, json.dumps({"choices": [choice], "usage": {"total_tokens": tokens}}).encode()


class Clock:
    """In place of the module `time`: its seconds pass by waiting alone."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def time(self) -> float:
        return self.seconds

    monotonic = time

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


class Endpoint(ThreadingHTTPServer):
    """Answers the n-th request, counted from 0, by `reply(text, n)`; raises OSError there to cut the connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[str, int], Reply] = lambda text, number: completion(f"new {text}")
        self.clock: Any = time
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """Cut connections are meant."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append({"path": self.path, **body})
            server.times.append(server.clock.monotonic())
            server.headers.append(dict(self.headers))
            server.running += 1
            server.most_running = max(server.most_running, server.running)
        try:
            status, headers, answer = server.reply(body["messages"][0]["content"].removeprefix("Say: "), number)
        finally:
            with server.lock:
                server.running -= 1
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at what was asked."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(chat, "FIRST_WAIT", 0.01)
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def llm(endpoint: Endpoint | str, **changes: Any) -> LanguageModel:
    address = endpoint if isinstance(endpoint, str) else f"http://127.0.0.1:{endpoint.server_address[1]}/v1"
    settings = yaml.safe_load(YAML.read_text()) | {"base_url": address, "model": "m", "prompt": "Say: {text}"}
    settings |= {"timeout": 5.0, "max_retries": 3, "max_tokens": 50} | changes
    del settings["_target_"]
    return LanguageModel(**settings)


def made(augmenter: LanguageModel, *texts: str, copy: int = 0) -> list[str]:
    return augmenter.augment(texts, [""] * len(texts), copy)


def message(run: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        run()
    return str(error.value)


def test_each_text_is_asked_for_once_and_answered_in_order(endpoint: Endpoint) -> None:
    def slow_for_the_first(text: str, number: int) -> Reply:
        time.sleep(0.2 if text == "t0" else 0)
        return completion(f"  new {text}\n")

    endpoint.reply = slow_for_the_first
    texts = [f"t{number}" for number in range(20)]
    assert made(llm(endpoint), *texts, " \n", "") == [*(f"new {text}" for text in texts), " \n", ""]
    assert len(endpoint.bodies) == 20
    body = next(body for body in endpoint.bodies if body["messages"][0]["content"] == "Say: t7")
    assert {key: body[key] for key in ("path", "model", "temperature", "max_tokens", "stream")} == {
        "path": "/v1/chat/completions",
        "model": "m",
        "temperature": 0.9,
        "max_tokens": 50,
        "stream": False,
    }
    assert "Authorization" not in endpoint.headers[0]


def test_seeds_follow_text_copy_and_seed(endpoint: Endpoint) -> None:
    for changes in ({}, {"copy": 1}, {"seed": 1}, {}):
        made(llm(endpoint, seed=changes.pop("seed", 0)), "a", **changes)
    seeds = [body["seed"] for body in endpoint.bodies]
    assert seeds[0] == seeds[3]
    assert len(set(seeds)) == 3


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_at_once_than_wanted(endpoint: Endpoint, concurrency: int) -> None:
    together = threading.Barrier(concurrency)

    def slow(text: str, number: int) -> Reply:
        if number < concurrency:
            together.wait(20)
        time.sleep(0.01)
        return completion("new")

    endpoint.reply = slow
    made(llm(endpoint, concurrency=concurrency, timeout=60.0), *map(str, range(12)))
    assert endpoint.most_running == concurrency


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (completion("I'm sorry, but I can't help with that."), "refused"),
        (completion("I\u2019m unable to rewrite this text."), "refused"),
        (completion("As an AI language model, I …"), "refused"),
        (completion("half", reason="content_filter"), "refused"),
        (completion(None, refusal="No."), "refused"),
        ((400, {}, b'{"error": {"code": "content_filter", "message": "no"}}'), "refused"),
        ((400, {}, b'{"error": {"code": "context_length_exceeded", "message": "no"}}'), "refused"),
        ((413, {}, b""), "refused"),
        (completion(""), "empty"),
        (completion(" \n "), "empty"),
        (completion("half a tex", reason="length"), "cut off"),
    ],
)
def test_answers_that_are_none_leave_the_original(
    endpoint: Endpoint, reply: Reply, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "uda")
    endpoint.reply = lambda text, number: reply if text == "bad one" else completion("new")
    augmenter = llm(endpoint)
    assert made(augmenter, "fine", "bad one", "fine too") == ["new", "bad one", "new"]
    augmenter.close()
    assert caplog.messages[0].startswith(f"kept the original, {outcome}: 'bad one'…")
    assert caplog.messages[-1].startswith(", ".join(sorted(["2 paraphrased", f"1 {outcome}"], key=lambda x: x[2:])))
    assert len(endpoint.bodies) == 3  # no second try


def test_reviews_that_say_sorry_are_no_refusals(endpoint: Endpoint) -> None:
    texts = ["I'm sorry to say that this film is bad.", "I can't stand it.", "As a fan, I liked it."]
    endpoint.reply = lambda text, number: completion(text.upper())
    assert made(llm(endpoint), *texts) == [text.upper() for text in texts]


def cut(text: str, number: int) -> Reply:
    raise OSError


@pytest.mark.parametrize(
    "fault",
    [
        lambda text, number: (500, {}, b"oops"),
        lambda text, number: (503, {}, b""),
        lambda text, number: (429, {}, b"{}"),
        lambda text, number: (200, {}, b"<html>garbage"),
        lambda text, number: (200, {}, b'{"choices": []}'),
        lambda text, number: (200, {}, b"[1, 2]"),
        lambda text, number: (200, {}, b"\xff\xfe"),
        lambda text, number: (200, {"Content-Length": "1000"}, b"{"),  # less than announced
        lambda text, number: (429, {"Retry-After": "Fri, 31 Feb 2026"}, b""),
        cut,
    ],
)
def test_faults_that_pass_are_tried_again(endpoint: Endpoint, fault: Callable[[str, int], Reply]) -> None:
    endpoint.reply = lambda text, number: fault(text, number) if number < 2 else completion("new")
    assert made(llm(endpoint), "text") == ["new"]
    assert len(endpoint.bodies) == 3


def test_time_outs_are_tried_again(endpoint: Endpoint) -> None:
    over = threading.Event()

    def late(text: str, number: int) -> Reply:
        if number == 0:
            over.wait()
        return completion("new")

    endpoint.reply = late
    try:
        assert made(llm(endpoint, timeout=2.0), "text") == ["new"]
    finally:
        over.set()
    assert len(endpoint.bodies) == 2


@pytest.fixture
def clock(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the client waits by and the endpoint notes the times of requests with."""
    endpoint.clock = Clock()
    monkeypatch.setattr(chat, "time", endpoint.clock)
    monkeypatch.setattr(chat.ChatClient, "_sleep", lambda self, seconds: endpoint.clock.wait(seconds))
    return endpoint.clock


def test_waits_grow_from_try_to_try(endpoint: Endpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "FIRST_WAIT", 1.0)
    endpoint.reply = lambda text, number: (500, {}, b"") if number < 3 else completion("new")
    assert made(llm(endpoint), "text") == ["new"]
    waits = [later - sooner for sooner, later in itertools.pairwise(endpoint.times)]
    assert [2**n <= wait <= 2**n + 1 for n, wait in enumerate(waits)] == [True] * 3  # up to 1 more of jitter


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "1"}, 1.0),
        ({"Retry-After": "DATE"}, 2.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-remaining-tokens": "49", "x-ratelimit-reset-tokens": "2m1500ms"}, 121.5),
    ],
)
@pytest.mark.parametrize("status", [200, 429])
def test_rate_limits_hold_back_every_request(
    endpoint: Endpoint, clock: Clock, headers: dict[str, str], seconds: float, status: int
) -> None:
    """Three requests and, after a refusal, its repetition: all but the first wait, and once only."""
    date = email.utils.formatdate(clock.time() + 2, usegmt=True)

    def limited(text: str, number: int) -> Reply:
        code, _, body = completion("new") if status == 200 else (429, {}, b"")
        return (code, {name: value.replace("DATE", date) for name, value in headers.items()}, body)

    endpoint.reply = lambda text, number: limited(text, number) if number == 0 else completion("new")
    assert made(llm(endpoint, concurrency=1), "a", "b", "c") == ["new"] * 3
    first, *later = endpoint.times
    assert later == pytest.approx([first + seconds] * len(later), abs=1e-3)
    assert len(later) == (2 if status == 200 else 3)


def test_a_limit_of_hours_ends_the_run(endpoint: Endpoint) -> None:
    endpoint.reply = lambda text, number: (429, {"Retry-After": "7200"}, b"")
    text = message(lambda: made(llm(endpoint), "a"))
    assert text.startswith("augment.base_url: expected an endpoint that lets us go on within the hour, found one at ")
    assert "asks to wait 7200 seconds" in text


def test_a_text_without_an_answer_keeps_its_original(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uda")
    endpoint.reply = lambda text, number: (500, {}, b"too hard") if text == "hard" else completion("new")
    augmenter = llm(endpoint)
    assert made(augmenter, "a", "hard", "b") == ["new", "hard", "new"]
    augmenter.close()
    assert len(endpoint.bodies) == 2 + 4
    (retried,) = (line for line in caplog.messages if "trying again" in line)
    assert "/v1/ gave no answer (HTTP 500: too hard): trying again in " in retried
    assert "kept the original, without an answer: 'hard'… (HTTP 500: too hard (4 tries))" in caplog.messages
    assert caplog.messages[-1] == "2 paraphrased, 1 without an answer; 20 of 1000000 tokens"


def test_an_endpoint_that_never_answers_ends_the_run(endpoint: Endpoint) -> None:
    endpoint.reply = lambda text, number: (500, {}, b"down")
    address = f"http://127.0.0.1:{endpoint.server_address[1]}/v1"
    assert message(lambda: made(llm(endpoint, max_retries=1), *map(str, range(50)))) == (
        f"augment.base_url: expected an endpoint that answers at {address}, found none for 3 texts in a row: HTTP 500: "
        "down (2 tries). What is in the cache stays there; the same command goes on from it."
    )
    assert len(endpoint.bodies) < 40  # the rest was called off


def test_an_endpoint_that_is_not_there() -> None:
    text = message(lambda: made(llm("http://127.0.0.1:9/v1", max_retries=0), "a", "b", "c"))
    assert text.startswith("augment.base_url: expected an endpoint that answers at http://127.0.0.1:9/v1, found none")
    assert "ConnectError" in text


@pytest.mark.parametrize(
    ("status", "key"),
    [(401, "augment.api_key_env"), (403, "augment.api_key_env"), (404, "augment.base_url"), (400, "augment.base_url")],
)
def test_faults_that_stay_end_the_run_at_once(endpoint: Endpoint, status: int, key: str) -> None:
    endpoint.reply = lambda text, number: (status, {}, b'{"error": {"code": null, "message": "unlike"}}')
    text = message(lambda: made(llm(endpoint, concurrency=1), *"abc"))
    assert text.startswith(f"{key}")
    assert f'found HTTP {status}: {{"error": {{"code": null, "message": "unlike"}}}}. ' in text
    assert len(endpoint.bodies) == 1


def test_the_limit_stops_before_it_is_passed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what came out is told whole, however long an answer is looked at."""
    accepted = LanguageModel._accepted
    monkeypatch.setattr(LanguageModel, "_accepted", lambda *given: (time.sleep(0.01), accepted(*given))[1])
    # A request takes at most ⌊5 + 2 bytes / 2⌋ + 50 = 53 tokens ("Say: " and two digits); an answer took 40.
    endpoint.reply = lambda text, number: completion("new", tokens=40)
    augmenter = llm(endpoint, limit=213)
    assert message(lambda: made(augmenter, *(str(number) for number in range(10, 20)))) == (
        "augment.limit: expected to stay within 213 tokens, found 200 used and up to 53 more for the next request, "
        "after 5 paraphrased; 200 of 213 tokens. What is in the cache stays there; the same command goes on from it, "
        "with as many tokens again."
    )
    assert len(endpoint.bodies) == 5  # 160 + 53 = 213 is within the limit still


def test_tokens_are_forecast_and_counted(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uda")
    augmenter = llm(endpoint)
    augmenter.prepare(iter(["ab" * 50, "é" * 50]), iter(["0", "1"]), 2)
    # Prompts of 5 + 100 bytes and answers of 100, twice: 410 bytes.
    assert "2 texts, about 102 tokens a copy" in caplog.messages[0]
    made(augmenter, "a", "b")
    made(augmenter, "c")
    assert len(caplog.messages) == 1  # no line for each few texts
    augmenter.close()
    augmenter.close()  # as a pipeline may
    assert len(caplog.messages) == 2
    assert caplog.messages[-1] == "3 paraphrased; 30 of 1000000 tokens"


def test_the_key_is_sent_and_kept_nowhere(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", "sk-secret")
    augmenter = llm(endpoint, api_key_env="MY_KEY")
    assert made(augmenter, "a") == ["new a"]
    assert endpoint.headers[0]["Authorization"] == "Bearer sk-secret"
    endpoint.reply = lambda text, number: (401, {}, b'"wrong key: sk-secret"')
    said = message(lambda: made(augmenter, "a"))
    assert 'found HTTP 401: "wrong key: …". ' in said
    first = augmenter.fingerprint()
    for place in (said, repr(augmenter), str(vars(augmenter)), first, caplog.text):
        assert "sk-secret" not in place
    monkeypatch.setenv("MY_KEY", "sk-other")
    assert llm(endpoint, api_key_env="MY_KEY").fingerprint() == first


@pytest.mark.parametrize(("value", "found"), [(None, "none"), (" ", "none"), ("ü", "one with other characters")])
def test_a_missing_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch, value: str | None, found: str) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    text = message(lambda: llm("http://127.0.0.1:9", api_key_env="MY_KEY"))
    assert text.startswith(f"augment.api_key_env: expected a key in the environment variable MY_KEY, found {found}")


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (
            {"base_url": "localhost:8000"},
            "augment.base_url: expected the address of a chat endpoint, found 'localhost:8000'",
        ),
        ({"base_url": "http://x:port"}, "augment.base_url: expected the address"),
        ({"prompt": "Rewrite."}, "augment.prompt: expected {text}, where the text goes, found 'Rewrite.'."),
        ({"refusals": ["("]}, "augment.refusals: expected regular expressions, found '(':"),
        ({"concurrency": 0}, "augment.concurrency: expected a whole number of at least 1, found 0."),
        ({"max_tokens": 1.5}, "augment.max_tokens: expected a whole number of at least 1, found 1.5."),
        ({"limit": 0}, "augment.limit: expected a whole number of at least 1, found 0."),
        ({"max_retries": -1}, "augment.max_retries: expected a whole number of at least 0, found -1."),
        ({"timeout": 0}, "augment.timeout, augment.temperature: expected seconds above 0"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], start: str) -> None:
    assert message(lambda: llm("http://127.0.0.1:9", **changes)).startswith(start)


def test_missing_packages_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tenacity" else name)
    assert message(lambda: llm("http://127.0.0.1:9")) == (
        "augment=llm: expected the packages httpx2 and tenacity, found no tenacity. Install them: pip install "
        "'uda[augment]'."
    )
