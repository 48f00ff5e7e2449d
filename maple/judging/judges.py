"""AlpacaEval's judges: which of two answers to an instruction is better, the reference model's or ours?

Two kinds of annotator:

    stand-in          a local rule, no model behind it, so that the pipeline runs without a key. It prefers the answer
                      that takes up more of the instruction's words and repeats itself less; close calls are draws.
                      It knows nothing of truth or style, its numbers say nothing about AlpacaEval's, and every
                      record and table that shows them says "stand-in".
    any other name    an annotator of the alpaca_eval package (alpaca_eval_gpt4 is AlpacaEval 1's,
                      weighted_alpaca_eval_gpt4_turbo AlpacaEval 2's), with that package's prompts, parsers and order
                      switching. It asks the OpenAI-compatible endpoint of OPENAI_API_BASE with OPENAI_API_KEY; where
                      that is not OpenAI's, records and tables name it, for only that server knows what answered.

maple/judging/judgements.py keeps what they say, so none is paid for twice.
"""

import logging
import math
import numbers
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from maple.core import redaction, storage
from maple.core.errors import MapleError, nearest
from maple.judging.judgements import STAND_IN, JudgementStore, Pair, key_of

# Close calls of the stand-in judge are draws.
MARGIN = 0.05
# Of a pair; within each the package itself repeats a request that was refused for its rate.
ATTEMPTS = 5
# That many pairs in a row without an answer mean that the endpoint is down, not that a pair is odd.
GIVE_UP = 5

log = logging.getLogger(__name__)


class Undecided(Exception):
    """The judge gave no usable answer; another try may help if `again`."""

    def __init__(self, why: str, again: bool):
        super().__init__(why)
        self.again = again


class StandIn:
    """See the module's text. Swapping the answers gives the opposite preference; equal answers draw."""

    name = STAND_IN
    workers = 1

    def cost(self, pairs: list[Pair]) -> str:
        return "a local rule, free of charge"

    def __call__(self, pair: Pair) -> float:
        difference = _merit(pair.instruction, pair.output) - _merit(pair.instruction, pair.reference)
        return 0.5 if abs(difference) < MARGIN else float(difference > 0)


class AlpacaEvalAnnotator:
    """An annotator of the alpaca_eval package, asked for one pair at a time so that one failure is one pair's."""

    def __init__(self, name: str, seed: int):
        # The package reads its environment at import, and its progress bars count one pair each.
        os.environ.setdefault("TQDM_DISABLE", "1")
        try:
            from alpaca_eval import annotators, constants
        except ImportError as error:
            raise MapleError(
                f"judge '{name}' needs the alpaca_eval package",
                why=f"{error}; it is no part of the pipeline's environment, because the default judge needs no key",
                do="pip install alpaca_eval, or set judge.annotator to stand-in",
            ) from error
        known = sorted(path.parent.name for path in constants.EVALUATORS_CONFIG_DIR.glob("*/configs.yaml"))
        if name not in known:
            why = "the package describes none of that name"
            raise MapleError(f"alpaca_eval has no annotator '{name}'", why=why, do=nearest(name, known))
        self.name, self.seed, self.workers = name, seed, constants.OPENAI_MAX_CONCURRENCY
        self._new = annotators.PairwiseAnnotator
        self._local = threading.local()

    def cost(self, pairs: list[Pair]) -> str:
        """An estimate from lengths (4 characters a token) and the package's own price list."""
        from alpaca_eval.decoders import openai

        single = next(iter(self._annotator().annotators.values()))
        template, options = len(single.prompt_template), single.completions_kwargs
        characters = sum(template + len(p.instruction) + len(p.reference) + len(p.output) for p in pairs)
        tokens = characters // 4 + len(pairs) * options.get("max_tokens", 0)
        price = openai._get_price_per_token(options.get("model_name", ""))
        dollars = "no price known" if price is None or math.isnan(price) else f"about {tokens * price:.2f} US dollars"
        return f"about {tokens:,} tokens of {options.get('model_name')}, {dollars}"

    def __call__(self, pair: Pair) -> float:
        """The preference, 0..1; raises Undecided, or MapleError where every other pair would fail too."""
        import openai

        check_key(self.name, os.environ.get("OPENAI_API_KEY", ""))
        row = {"instruction": pair.instruction, "output_1": pair.reference, "output_2": pair.output}
        try:
            found = self._annotator().annotate_pairs([row])
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise MapleError(
                f"judge '{self.name}' was refused", why=str(error), do="check OPENAI_API_KEY and OPENAI_API_BASE"
            ) from error
        except openai.BadRequestError as error:
            raise Undecided(f"the endpoint refuses this pair: {error}", again=False) from error
        except openai.OpenAIError as error:
            if 300 <= getattr(error, "status_code", 0) < 400:
                raise _redirected(self.name, error) from error
            raise Undecided(f"no answer: {error}", again=True) from error
        except UnicodeError as error:
            raise MapleError(
                f"judge '{self.name}' cannot be asked",
                why="the key, the organisation or the address has a character that no request can carry",
                do="type it anew in OPENAI_API_KEY, OPENAI_API_BASE or the file of OPENAI_CLIENT_CONFIG_PATH",
            ) from error
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            # The package takes an answer apart as it comes: a page of HTML, no choices or no usage end in any of these.
            raise Undecided(f"malformed answer: {error!r}", again=True) from error
        return preference_of(found[0].get("preference") if found else None)

    def _annotator(self) -> Any:
        """One per thread: the package keeps its state in the object."""
        if not hasattr(self._local, "annotator"):
            self._local.annotator = self._new(
                annotators_config=self.name, seed=self.seed, caching_path=None, is_avoid_reannotations=False
            )
            for single in self._local.annotator.annotators.values():
                _stay(single)
        return self._local.annotator


def _stay(single: Any) -> None:
    """Make an annotator's client take no redirect: it would send the prompts, and to a path of the same host the key too."""
    import openai

    if single.fn_completions.__name__ == "openai_completions":
        client = openai.DefaultHttpxClient(follow_redirects=False)
        single.completions_kwargs = {**single.completions_kwargs, "client_kwargs": {"http_client": client}}


def _redirected(name: str, error: Any) -> MapleError:
    place = urlsplit(error.response.headers.get("location", ""))
    return MapleError(
        f"judge '{name}' is elsewhere",
        why=f"the endpoint answers {error.status_code} and points to {place.hostname or 'another path of its own'}; "
        "neither the key nor the prompts were sent there",
        do="set OPENAI_API_BASE to the final address, if you trust it with both",
    )


def check_key(name: str, key: str) -> None:
    """MapleError where there is no key, or one that no header can carry; it is not printed."""
    if not key:
        raise MapleError(
            f"judge '{name}' has no key",
            why="OPENAI_API_KEY is not set, and the store lacks judgements that this run needs",
            do="set OPENAI_API_KEY (and OPENAI_API_BASE for another endpoint), or set judge.annotator to stand-in",
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        what = (
            "a character outside ASCII" if not key.isascii() else "a space, a line break or another invisible character"
        )
        raise MapleError(
            f"judge '{name}' has a key that cannot be sent",
            why=f"OPENAI_API_KEY holds {what}, so it was not copied as it is",
            do="copy the key anew, in one line and without quotes",
        )


def endpoint_of(annotator: str) -> str | None:
    """Where the package asks, by what it and its client read from the environment; None at OpenAI's own address.

    Without user and password, since it is printed. Of a file of clients the hash, for it holds keys.
    """
    if annotator == STAND_IN:
        return None
    clients = Path(os.environ.get("OPENAI_CLIENT_CONFIG_PATH", ""))
    if clients.is_file():
        return f"clients {storage.sha256(clients)[:12]}"
    address = urlsplit(os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL") or "")
    if address.hostname in (None, "api.openai.com"):
        return None
    # Some gateways take the key as a part of the path.
    return redaction.redacted(
        urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path.rstrip("/"), "", ""))
    )


def annotator(name: str, seed: int) -> StandIn | AlpacaEvalAnnotator:
    return StandIn() if name == STAND_IN else AlpacaEvalAnnotator(name, seed)


def judge(
    pairs: Iterable[Pair],
    name: str,
    seed: int,
    store: JudgementStore,
    say: Callable[[str], None] = lambda text: None,
    wait: Callable[[float], None] = time.sleep,
    make: Callable[[str, int], Any] = annotator,
) -> dict[str, float | None]:
    """{id: preference, or None where the judge gave none}, in the order of the pairs.

    Only pairs that are not in the store are asked for, so a complete store needs neither key nor package; what they
    cost is said first. A pair is asked up to ATTEMPTS times, with pauses of 1, 2, 4 and 8 seconds.
    """
    pairs = list(pairs)
    endpoint = endpoint_of(name)
    keys = {pair.id: key_of(pair, name, endpoint, seed) for pair in pairs}
    new = list({keys[pair.id]: pair for pair in pairs if keys[pair.id] not in store.known}.values())
    if new:
        ask = make(name, seed)
        place = f" at {endpoint}" if endpoint else ""
        say(f"{len(new)} of {len(pairs)} pairs to judge by {name}{place}: {ask.cost(new)}")
        failures = _Failures(name)

        def one(pair: Pair) -> None:
            preference = None if failures.stopped else _with_retries(ask, pair, wait, failures)
            if preference is not None:
                store.add(keys[pair.id], preference)

        with ThreadPoolExecutor(max_workers=ask.workers) as pool:
            try:
                list(pool.map(one, new))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        failures.check()
    return {pair.id: store.known.get(keys[pair.id]) for pair in pairs}


def preference_of(value: Any) -> float:
    """The package's 1 (reference better) to 2 (model better) as 0 to 1; 0 and 1.5 are draws.

    >>> preference_of(2.0), preference_of(0), preference_of(1.25)
    (1.0, 0.5, 0.25)
    """
    # A truth value would pass for the 1 that means a loss, and a text for no number at all.
    if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise Undecided(f"the judge's preference is {value!r}, no number", again=True)
    if value is None or math.isnan(value):
        raise Undecided("the judge's answer could not be parsed", again=True)
    if value == 0:
        return 0.5
    if not 1 <= value <= 2:
        raise Undecided(f"the judge's preference is {value}", again=True)
    return float(value) - 1


class _Failures:
    """Counts pairs in a row that the endpoint did not answer."""

    def __init__(self, name: str):
        self.name, self.row, self.last, self.stopped = name, 0, "", False

    def answered(self) -> None:
        self.row = 0

    def failed(self, why: str) -> None:
        self.row, self.last = self.row + 1, why
        self.stopped = self.stopped or self.row >= GIVE_UP

    def check(self) -> None:
        if self.stopped:
            raise MapleError(
                f"judge '{self.name}' gave no usable answer to {GIVE_UP} pairs in a row",
                why=self.last,
                do="check the endpoint, then run the stage again; what was judged is kept",
            )


def _with_retries(
    ask: Callable[[Pair], float], pair: Pair, wait: Callable[[float], None], failures: _Failures
) -> float | None:
    for attempt in range(ATTEMPTS):
        try:
            preference = ask(pair)
            failures.answered()
            return preference
        except Undecided as error:
            log.info("pair %s, attempt %d: %s", pair.id, attempt + 1, error)
            why, again = str(error), error.again
        if not again:
            return None
        if attempt + 1 < ATTEMPTS:
            wait(2.0**attempt)
    failures.failed(why)
    return None


def _merit(instruction: str, answer: str) -> float:
    """Share of the instruction's words that the answer takes up, plus the share of the answer's words that are new."""
    asked, words = set(_words(instruction)), _words(answer)
    if not words:
        return 0.0
    return len(asked & set(words)) / max(1, len(asked)) + len(set(words)) / len(words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
