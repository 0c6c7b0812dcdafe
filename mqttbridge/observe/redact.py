"""Keep secrets out of whatever people and programs read: log lines, errors, tracebacks, answers.

A `Redactor` knows every secret of the configuration, in each form in which one may travel, and masks them all. It
also turns any value into plain JSON data on the way, because what cannot be walked cannot be masked.

Invariants: nothing leaves `text` or `plain` with a planted secret of four characters or more in it; neither ever
raises, whatever it is given; the cost does not grow with the number of secrets.
"""

from __future__ import annotations

import base64
import functools
import json
import threading
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mqttbridge.settings.secret import MASK, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MASK", "Redactor", "describe"]

HEAD = 4
"""A secret shorter than this is masked only where it is the whole value: it occurs in every other word."""
MAX_TEXT = 16_384
"""Characters of one string that are kept."""
SCANNED = 4 * MAX_TEXT
"""Characters of one string that are looked at: a secret that this cut splits lies beyond what is kept."""
MAX_DEPTH = 8
MAX_ITEMS = 200
PEM_LINE = 6
"""Lines of a PEM body from this length on are secrets of their own."""
WORD = 64
INT64 = 2**63
PLAIN = frozenset({type(None), bool})


class Redactor:
    """Masks what it was told. One for the process; `add` may be called at any time, in any thread (as reloads do)."""

    __slots__ = ("_changing", "_forms", "_planted", "_whole")

    def __init__(self) -> None:
        """Start with nothing to hide."""
        self._planted: dict[str, tuple[int, frozenset[str]]] = {}
        """How often each secret was planted, and its forms."""
        self._whole: dict[str, int] = {}
        """Every form, with the number of secrets that it is one of."""
        # Every form, by its first four characters, the longest first: one dictionary look-up a position finds the
        # few candidates, where one regular expression over thousands of secrets would try them all.
        self._forms: dict[str, tuple[str, ...]] = {}
        # Secrets come and go in any thread; whoever masks meanwhile sees each change whole.
        self._changing = threading.Lock()

    def add(self, *secrets: str) -> Callable[[], None]:
        """Plant secrets: each is masked from now on, in every form in which it may travel.

        Gives what takes them out again, to be called once: each is masked as long as it is planted by anyone.
        """
        texts = {"".join(secret) for secret in secrets}  # a `Secret` shows its text to nothing else
        with self._changing:
            for text in texts:
                times, forms = self._planted.get(text) or (0, frozenset(_forms(text)))
                self._planted[text] = (times + 1, forms)
                if not times:
                    for form in forms:
                        self._plant(form)
        return functools.partial(self._remove, texts)

    def _plant(self, form: str) -> None:
        number = self._whole[form] = self._whole.get(form, 0) + 1
        if number == 1 and len(form) >= HEAD:
            known = self._forms.get(form[:HEAD], ())
            self._forms[form[:HEAD]] = tuple(sorted((*known, form), key=len, reverse=True))

    def _remove(self, texts: Iterable[str]) -> None:
        with self._changing:
            for text in texts:
                times, forms = self._planted.pop(text)
                if times > 1:
                    self._planted[text] = (times - 1, forms)
                    continue
                for form in forms:
                    self._uproot(form)

    def _uproot(self, form: str) -> None:
        self._whole[form] -= 1
        if self._whole[form]:
            return
        del self._whole[form]
        if left := tuple(other for other in self._forms.get(form[:HEAD], ()) if other != form):
            self._forms[form[:HEAD]] = left
        else:
            self._forms.pop(form[:HEAD], None)

    def text(self, text: str) -> str:
        """Give the text with every secret masked; the same object when there is none in it."""
        if isinstance(text, Secret) or text in self._whole:
            return MASK
        forms = self._forms
        if not forms:
            return text
        hits = [i for i in range(len(text) - HEAD + 1) if text[i : i + HEAD] in forms]
        return self._mask(text, hits) if hits else text

    def _mask(self, text: str, hits: list[int]) -> str:
        """Mask every secret that begins at one of these positions; what overlaps becomes one mask."""
        spans: list[tuple[int, int]] = []
        for hit in hits:
            known = self._forms.get(text[hit : hit + HEAD], ())
            form = next((form for form in known if text.startswith(form, hit)), None)
            if form is None:
                continue
            if spans and hit < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], hit + len(form)))
            else:
                spans.append((hit, hit + len(form)))
        parts, end = [], 0
        for start, stop in spans:
            parts += [text[end:start], MASK]
            end = stop
        return "".join((*parts, text[end:]))

    def plain(self, value: object, *, keep: frozenset[str] = frozenset()) -> Any:  # noqa: ANN401 (JSON is any of these)
        """Give the value as plain JSON data without a secret. Keys in `keep` are left as they are."""
        try:
            return self._plain(value, keep, ())
        except Exception:  # noqa: BLE001 (an odd value must never break the line that it stands in)
            return f"<{type(value).__name__} that cannot be shown>"

    def _plain(self, value: object, keep: frozenset[str], above: tuple[int, ...]) -> Any:  # noqa: ANN401, PLR0911 (one return a kind)
        kind = type(value)
        if kind is str or isinstance(value, str):
            return self._string(value)  # type: ignore[arg-type]
        if kind in PLAIN:
            return value
        if isinstance(value, (int, float)):
            return self._number(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._string(bytes(value[: SCANNED + 1]).decode("utf-8", "backslashreplace"))
        if isinstance(value, BaseException):
            return self._string(describe(value))
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            if id(value) in above or len(above) >= MAX_DEPTH:
                return "…"
            return self._container(value, keep, (*above, id(value)))
        return self._string(_show(value))

    def _container(self, value: Any, keep: frozenset[str], above: tuple[int, ...]) -> Any:  # noqa: ANN401
        """Walk a mapping, list, tuple or set; what is beyond the first 200 items is left out."""
        if not isinstance(value, Mapping):
            items = list(value) if isinstance(value, (set, frozenset)) else value
            given = [self._below(item, above) for item in items[:MAX_ITEMS]]
            return [*given, "…"] if len(items) > MAX_ITEMS else given
        shown: dict[str, Any] = {}
        for key, item in value.items():
            if len(shown) >= MAX_ITEMS:
                shown["…"] = len(value) - MAX_ITEMS
                break
            name = key if type(key) is str and key in keep else str(self._below(key, above))
            shown[name] = self._below(item, above)
        return shown

    def _below(self, value: object, above: tuple[int, ...]) -> Any:  # noqa: ANN401
        """Like `plain`, for a value inside containers whose identities are `above`: a cycle ends there."""
        try:
            return self._plain(value, frozenset(), above)
        except Exception:  # noqa: BLE001 (one odd item must not hide the others)
            return f"<{type(value).__name__} that cannot be shown>"

    def _number(self, value: float) -> int | float | str:
        """Give a plain number; as text, when it has more than the 64 bits that other programs read."""
        number = int(value) if isinstance(value, int) else float(value)
        text = repr(number)
        if text in self._whole:
            return MASK
        return number if isinstance(number, float) or -INT64 <= number < INT64 else text[:WORD]

    def _string(self, value: str) -> str:
        """Mask, bound, and make encodable."""
        if isinstance(value, Secret):
            return MASK
        text = str.__str__(value[:SCANNED])
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode()
        text = self.text(text)
        return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def describe(error: BaseException) -> str:
    """Give an exception's type and message; of a group, those of its members (at most five)."""
    if isinstance(error, BaseExceptionGroup):
        members = "; ".join(describe(member) for member in error.exceptions[:5])
        return f"{type(error).__name__}: {error.message}: {members}"
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 (its __str__ is foreign code)
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _show(value: object) -> str:
    """Give what an object says of itself: paths, times and the like by `str`, all else by `repr`."""
    return str(value) if type(value).__module__ in {"pathlib", "datetime", "uuid", "ipaddress"} else repr(value)


def _forms(secret: str) -> Iterator[str]:
    """Give the forms in which a secret may travel: as it is, escaped, percent-encoded, base64, hex, PEM lines."""
    for text in {secret, secret.strip()} - {""}:
        yield text
        if len(text) >= HEAD:
            yield from _escaped(text)
            yield from _encoded(text.encode("utf-8", "surrogatepass"))
            if "-----BEGIN" in text:
                yield from _pem_lines(text)


def _escaped(text: str) -> Iterator[str]:
    """Give the text as JSON, Python and URLs write it."""
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1]
    yield repr(text)[1:-1]
    raw = text.encode("utf-8", "surrogatepass")
    yield repr(raw)[2:-1]
    yield text.encode("utf-8", "backslashreplace").decode()
    for quoted in (urllib.parse.quote(raw, safe=""), urllib.parse.quote(raw), urllib.parse.quote_plus(raw)):
        yield quoted
        # The two digits of %2F may come in lower case.
        yield "%".join((quoted.split("%")[0], *(part[:2].lower() + part[2:] for part in quoted.split("%")[1:])))
    if all(digit in "0123456789abcdefABCDEF" for digit in text):
        yield text.lower()
        yield text.upper()


def _encoded(raw: bytes) -> Iterator[str]:
    """Give the bytes as hex and as base64: alone, and inside of something longer (`user:password`)."""
    yield raw.hex()
    yield raw.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for before in range(3):
            # The characters that hold bits of nothing but the secret, when `before` bytes stand ahead of it.
            first = -(-before * 8 // 6)
            inner = encode(bytes(before) + raw).decode()[first : (before + len(raw)) * 8 // 6]
            if len(inner) >= HEAD:
                yield inner


def _pem_lines(text: str) -> Iterator[str]:
    """Give each base64 line of a PEM text, and the body in one piece."""
    lines = [line.strip() for line in text.splitlines()]
    body = [line for line in lines if line and "-----" not in line and ":" not in line]
    yield from (line for line in body if len(line) >= PEM_LINE)
    yield "".join(body)
