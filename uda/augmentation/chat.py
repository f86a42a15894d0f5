"""A client of OpenAI-compatible chat endpoints for many threads: it tries again, waits, and obeys rate limits."""

import email.utils
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import tenacity

from uda.errors import UserError

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before the second try, doubled for each one after
_SECONDS_A_LINE = 10.0  # between two lines of the log about tries that failed
_LONGEST_PAUSE = 3600.0  # what an endpoint may ask for; more is a quota that is used up
_REFUSED_CODES = ("content_filter", "context_length_exceeded")  # a text that the endpoint does not want, or not so long
_NUM_SHOWN = 300  # characters of an endpoint's answer in a message
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Exhausted(Exception):
    """Every try of one request failed in a way that may be the text's or the endpoint's fault."""


class Refused(Exception):
    """The endpoint does not take this text."""


class Stopped(Exception):
    """The requests were called off."""


@dataclass(frozen=True)
class Answer:
    """What the endpoint says to one prompt; `tokens` counts those of prompt and answer."""

    text: str
    finish_reason: str
    tokens: int


class _Temporary(Exception):
    """A failure that another try may mend, after `wait` seconds at the least."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class ChatClient:
    """Sends prompts to `base_url`/chat/completions; a context manager whose methods any thread may call.

    `settings`: the other fields of each request. `timeout`: the seconds that the endpoint may stay silent.
    `max_retries`: the further tries after a failure that may pass. `key`: None where none is wanted; no message has it.
    """

    def __init__(
        self, base_url: str, settings: Mapping[str, Any], timeout: float, max_retries: int, key: str | None
    ) -> None:
        self._settings = dict(settings)
        self._max_retries = max_retries
        self._key = key
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open_from = 0.0  # by time.monotonic(): no request before
        self._told_at = -_SECONDS_A_LINE
        self._client = httpx2.Client(
            base_url=base_url.rstrip("/") + "/",
            timeout=timeout,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            limits=httpx2.Limits(max_connections=None),
        )

    def __enter__(self) -> "ChatClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """Call off waiting and further requests, in all threads."""
        self._stopped.set()

    def ask(self, prompt: str, seed: int) -> Answer:
        """The answer to a prompt, sampled with a seed where the endpoint knows such.

        Raises UserError or Refused where no further try can help, Exhausted after the last one, Stopped after `stop`.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Temporary),
            stop=tenacity.stop_after_attempt(self._max_retries + 1),
            wait=self._seconds_to_wait,
            sleep=self._sleep,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return retrying(self._try, prompt, seed)
        except _Temporary as error:
            raise Exhausted(f"{error} ({self._max_retries + 1} tries)") from None

    def _try(self, prompt: str, seed: int) -> Answer:
        self._wait_until_open()
        body = {**self._settings, "messages": [{"role": "user", "content": prompt}], "seed": seed, "stream": False}
        try:
            response = self._client.post("chat/completions", json=body)
        except httpx2.RequestError as error:
            raise _Temporary(f"{type(error).__name__} {error}".strip()) from None
        self._obey(response.headers)
        if response.is_success:
            return self._read(response)
        raise self._failure(response)

    def _read(self, response: httpx2.Response) -> Answer:
        try:
            answer = response.json()
            choice = answer["choices"][0]
            message, usage = choice["message"], answer.get("usage") or {}
            text, refusal = message.get("content") or "", message.get("refusal")
            reason = "content_filter" if refusal else str(choice.get("finish_reason"))
            tokens = int(usage.get("total_tokens") or 0)
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _Temporary(f"an answer that is no chat completion: {self._shown(response)}") from None
        return Answer(text, reason, tokens)

    def _failure(self, response: httpx2.Response) -> Exception:
        status, found = response.status_code, f"HTTP {response.status_code}: {self._shown(response)}"
        if status in (408, 409, 425, 429) or status >= 500:
            return _Temporary(found, _retry_after(response.headers))
        if status in (401, 403):
            return UserError(
                f"augment.api_key_env: expected a key that {self._client.base_url} accepts, found {found}. Name the "
                "environment variable that holds one."
            )
        if _error_code(response) in _REFUSED_CODES or status == 413:
            return Refused(found)
        return UserError(
            f"augment.base_url, augment.model: expected a chat endpoint that takes such requests at "
            f"{self._client.base_url}chat/completions, found {found}. Correct them, or the other keys of augment."
        )

    def _obey(self, headers: httpx2.Headers) -> None:
        """Let no request start before a used-up limit is renewed, or before the endpoint wants to hear of us."""
        wait = _retry_after(headers)
        for kind, least in (("requests", 1), ("tokens", int(self._settings["max_tokens"]))):
            left = headers.get(f"x-ratelimit-remaining-{kind}", "")
            if left.isdecimal() and int(left) < least:
                wait = max(wait, _seconds(headers.get(f"x-ratelimit-reset-{kind}", "")))
        if wait > _LONGEST_PAUSE:
            raise UserError(
                f"augment.base_url: expected an endpoint that lets us go on within the hour, found one at "
                f"{self._client.base_url} that asks to wait {wait:.0f} seconds. What is in the cache stays there; the "
                "same command goes on from it then."
            )
        with self._lock:
            self._open_from = max(self._open_from, time.monotonic() + wait)

    def _wait_until_open(self) -> None:
        self._sleep(0.0)
        while (left := self._open_from - time.monotonic()) > 0:
            self._sleep(left)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stopped

    def _seconds_to_wait(self, state: tenacity.RetryCallState) -> float:
        backoff = tenacity.wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)
        error = state.outcome.exception() if state.outcome else None
        return max(backoff(state), error.wait if isinstance(error, _Temporary) else 0.0)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        """Say why it takes longer, so often as can be read."""
        with self._lock:
            if time.monotonic() - self._told_at < _SECONDS_A_LINE:
                return
            self._told_at = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        log.info("%s gave no answer (%s): trying again in %.0f s", self._client.base_url, error, wait)

    def _shown(self, response: httpx2.Response) -> str:
        text = " ".join(response.text.split())
        text = text.replace(self._key, "…") if self._key else text
        return text[:_NUM_SHOWN] or "nothing"


def _retry_after(headers: httpx2.Headers) -> float:
    """The seconds that `Retry-After` asks for, as a number or as a date; 0 without either."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:  # neither
        return 0.0


def _seconds(duration: str) -> float:
    """`6m0s`, `20ms` or plain seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", duration):
        return float(duration)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", duration))


def _error_code(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return ""
