"""Redaction: takes out of a text what could tell who somebody is, or open a door. Pure.

It knows patterns, not meaning: names, postal addresses and what is written out in words stay.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000
"""Characters of the text that are kept, before placeholders take their place."""

WINDOW = 2 * LONGEST
"""Characters that are looked at: what begins before the end of the text kept may end after it."""
_PATTERNS = {
    "url": r"(?:\b(?:https?|ftps?|wss?|ssh|git)://|\bwww\.)\S+",
    "email": r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+",
    "handle": r"(?<!\w)@\w[\w.@-]*",
    "ip": r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"
    r"|(?<![\w:])(?=[0-9a-f:]{0,20}::|(?:[0-9a-f]{1,4}:){4})(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])",
    # 20 characters of a key's alphabet with a digit among them, or 40 without one.
    "secret": r"(?<![a-z0-9+/_=-])(?:(?=[a-z+/_=-]{0,200}[0-9])[a-z0-9+/_=-]{20,}|[a-z+/_=]{40,})",
    # Phone and card numbers, and all other runs of at least 7 digits.
    "number": r"\+?\(?\d(?:[ ().\-/\u2010-\u2013]{0,2}\d){6,}",
}
_ANY = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _PATTERNS.items()), re.IGNORECASE)
_UNSEEN = re.compile(r"[\x00\u00ad\u200b-\u200d\u2060\ufeff\ud800-\udfff]")
"""What no reader sees and what could split a pattern, and what a database refuses."""


def redacted(text: str) -> str:
    """The start of `text`, with `[email]`, `[url]`, `[number]`, `[ip]`, `[handle]`, `[secret]` put in.

    At most the first 2,000 characters, then `…`. Compatibility forms (such as wide digits) are made plain ones, and
    characters that nobody sees are left out.
    """
    plain = _UNSEEN.sub("", unicodedata.normalize("NFKC", text[:WINDOW]))
    pieces: list[str] = []
    end = 0
    for match in _ANY.finditer(plain):
        if match.start() >= LONGEST:
            break
        pieces += [plain[end : match.start()], f"[{match.lastgroup}]"]
        end = match.end()
    pieces.append(plain[end:LONGEST])
    return "".join(pieces) + ("…" if len(plain) > max(end, LONGEST) or len(text) > WINDOW else "")
