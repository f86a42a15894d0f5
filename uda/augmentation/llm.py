"""Paraphrases by a language model behind an OpenAI-compatible chat endpoint."""

import importlib.util
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from uda.augmentation.base import Augmenter, text_generator
from uda.errors import UserError

if TYPE_CHECKING:
    from uda.augmentation.chat import Answer, ChatClient

log = logging.getLogger(__name__)

_PLACE = "{text}"
_BYTES_PER_TOKEN = 4  # of English; for the forecast
_FEWEST_BYTES_PER_TOKEN = 2  # for what a request may cost at the most
_MAX_FAILURES = 3  # texts in a row that get no answer before the endpoint is given up
_SECONDS_A_REPORT = 60.0  # between two lines about what came out
_EXCERPT = 60  # characters of a text in the log


class LanguageModel(Augmenter):
    """One answer of a chat model for each text: `prompt` with the text in place of `{text}`.

    A text keeps its original where the answer is empty, cut off (at `max_tokens`), refused (by the endpoint, or
    it matches one of the regular expressions `refusals`), or missing after `max_retries` further tries; all are counted
    in the log. At most `concurrency` requests run at once; one may stay silent for `timeout` seconds. No request starts
    that may take this process beyond `limit` tokens of prompts and answers: a UserError says how far it got.
    `api_key_env` names the environment variable with the key, None: no key. Answers are sampled, so that the same
    text, asked again, may get another one; the seed that is sent makes them the same where the endpoint heeds it.
    """

    own_workers = True
    free_settings = ("concurrency", "timeout", "max_retries", "limit", "api_key_env")

    def __init__(
        self,
        base_url: str,
        model: str,
        prompt: str,
        temperature: float,
        max_tokens: int,
        refusals: Sequence[str],
        concurrency: int,
        timeout: float,
        max_retries: int,
        limit: int,
        api_key_env: str | None,
        seed: int,
    ) -> None:
        _check_packages()
        if not _is_address(base_url):
            raise UserError(
                f"augment.base_url: expected the address of a chat endpoint, found '{base_url}'. Set it to, for "
                "example, http://127.0.0.1:8000/v1."
            )
        if _PLACE not in prompt:
            raise UserError(f"augment.prompt: expected {_PLACE}, where the text goes, found '{prompt}'. Put it there.")
        counts = {"max_tokens": (max_tokens, 1), "concurrency": (concurrency, 1), "limit": (limit, 1)}
        counts |= {"max_retries": (max_retries, 0), "seed": (seed, 0)}
        for key, (value, least) in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(
                    f"augment.{key}: expected a whole number of at least {least}, found {value!r}. Correct it."
                )
        if not timeout > 0 or temperature < 0:
            raise UserError(
                f"augment.timeout, augment.temperature: expected seconds above 0 and a temperature of at least 0, "
                f"found {timeout!r} and {temperature!r}. Correct them."
            )
        self.base_url, self.prompt = base_url, prompt
        self.request = {"model": str(model), "temperature": temperature, "max_tokens": max_tokens}
        self.refusals = [_compiled(pattern) for pattern in refusals]
        self.concurrency, self.timeout, self.max_retries = concurrency, timeout, max_retries
        self.max_texts = concurrency  # answers are paid for: few are lost where one ends the run
        self.limit, self.seed = limit, seed
        self.api_key_env = api_key_env
        self._key()
        self._changed = threading.Condition()
        self._used = self._reserved = self._failures = 0  # tokens, tokens at the most, texts in a row
        self._outcomes: Counter[str] = Counter()
        self._reported, self._reported_at = 0, time.monotonic()

    def prepare(self, texts: Iterable[str], keys: Iterable[str], num_source_rows: int) -> None:
        count = size = 0
        for text in texts:
            count += 1
            size += len(self._prompt(text).encode()) + len(text.encode())
        log.info(
            "%s at %s: %d texts, about %d tokens a copy (at %d bytes a token, answers as long as texts); "
            "augment.limit=%d",
            self.request["model"],
            self.base_url,
            count,
            size // _BYTES_PER_TOKEN,
            _BYTES_PER_TOKEN,
            self.limit,
        )

    def augment(self, texts: Sequence[str], keys: Sequence[str], copy: int) -> list[str]:
        from uda.augmentation.chat import ChatClient, Stopped

        executor = ThreadPoolExecutor(self.concurrency, thread_name_prefix="uda-llm")
        with ChatClient(self.base_url, self.request, self.timeout, self.max_retries, self._key()) as client:
            try:
                futures = [executor.submit(self._work, client, text, copy) for text in texts]
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                client.stop()
                executor.shutdown(cancel_futures=True)
        for error in [future.exception() for future in futures if not future.cancelled()]:
            if error is not None and not isinstance(error, Stopped):
                raise error
        if time.monotonic() - self._reported_at >= _SECONDS_A_REPORT:
            self._log_report()
        return [future.result() for future in futures]

    def close(self) -> None:
        if self._outcomes.total() > self._reported:
            self._log_report()

    def _log_report(self) -> None:
        log.info("%s", self._report())
        self._reported, self._reported_at = self._outcomes.total(), time.monotonic()

    def fingerprint(self) -> str:
        from uda.augmentation import chat
        from uda.augmentation.base import code_hash

        return super().fingerprint() + code_hash(chat)

    def _work(self, client: "ChatClient", text: str, copy: int) -> str:
        try:
            return self._paraphrase(client, text, copy)
        except UserError:
            client.stop()  # before this thread takes the next text
            raise

    def _paraphrase(self, client: "ChatClient", text: str, copy: int) -> str:
        from uda.augmentation.chat import Exhausted, Refused

        if not text.strip():
            return text
        prompt = self._prompt(text)
        most = len(prompt.encode()) // _FEWEST_BYTES_PER_TOKEN + int(str(self.request["max_tokens"]))
        self._reserve(most)
        used = most
        try:
            answer = client.ask(prompt, int(text_generator(self.seed, copy, text).integers(2**31)))
            used = answer.tokens or (len(prompt.encode()) + len(answer.text.encode())) // _BYTES_PER_TOKEN
            return self._accepted(text, answer)
        except Refused as error:
            used = 0
            return self._keep(text, "refused", str(error))
        except Exhausted as error:
            used = 0
            self._fail(error)
            return self._keep(text, "without an answer", str(error))
        finally:
            self._count(most, used)  # last: whoever waits for its end may have to report all that came out

    def _accepted(self, text: str, answer: "Answer") -> str:
        """The answer where it is a paraphrase, else the text."""
        self._failures = 0
        new = answer.text.strip()
        if answer.finish_reason == "content_filter" or any(refusal.search(new) for refusal in self.refusals):
            return self._keep(text, "refused", new)
        if not new:
            return self._keep(text, "empty", "an empty answer")
        if answer.finish_reason == "length":
            return self._keep(text, "cut off", "an answer longer than augment.max_tokens")
        with self._changed:
            self._outcomes["paraphrased"] += 1
        return new

    def _reserve(self, most: int) -> None:
        """Wait for other requests to end while these may use up what is left; then there is room for this one."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved or self._used + self._reserved + most <= self.limit)
            if self._used + most > self.limit:
                raise UserError(
                    f"augment.limit: expected to stay within {self.limit} tokens, found {self._used} used and up to "
                    f"{most} more for the next request, after {self._report()}. What is in the cache stays there; the "
                    "same command goes on from it, with as many tokens again."
                )
            self._reserved += most

    def _count(self, most: int, used: int) -> None:
        with self._changed:
            self._reserved -= most
            self._used += used
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                raise UserError(
                    f"augment.base_url: expected an endpoint that answers at {self.base_url}, found none for "
                    f"{_MAX_FAILURES} texts in a row: {error}. What is in the cache stays there; the same command "
                    "goes on from it."
                ) from None

    def _keep(self, text: str, outcome: str, reason: str) -> str:
        with self._changed:
            self._outcomes[outcome] += 1
        log.info("kept the original, %s: %r… (%s)", outcome, text[:_EXCERPT], reason[: 2 * _EXCERPT])
        return text

    def _report(self) -> str:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items())) or "no text"
        return f"{counted}; {self._used} of {self.limit} tokens"

    def _prompt(self, text: str) -> str:
        return self.prompt.replace(_PLACE, text)

    def _key(self) -> str | None:
        """The key, which is read anew whenever it is needed, so that it is stored nowhere."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            found = "one with other characters than printable ASCII" if key else "none"
            raise UserError(
                f"augment.api_key_env: expected a key in the environment variable {self.api_key_env}, found {found}. "
                "Set the variable, or augment.api_key_env=null for an endpoint that wants none."
            )
        return key


def _is_address(base_url: str) -> bool:
    try:
        parts = urlsplit(base_url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_packages() -> None:
    missing = [name for name in ("httpx2", "tenacity") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"augment=llm: expected the packages httpx2 and tenacity, found no {' and no '.join(missing)}. Install "
            "them: pip install 'uda[augment]'."
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise UserError(
            f"augment.refusals: expected regular expressions, found '{pattern}': {error}. Correct it."
        ) from error
