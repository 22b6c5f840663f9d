"""A tiny template grammar: fills `{slots}` from word lists and tidies the English that comes out.

A template is a string. `{a|b|c}` draws one of the alternatives, which may hold slots themselves; `{name}` is filled
from `rules["name"]`. A slot keeps its value for the whole expansion, so `{animal} … {animal}` names one animal;
`{animal2}` draws again from the rule `animal`.
"""

import random
import re
from collections.abc import Mapping, Sequence

Rules = Mapping[str, Sequence[str]]

_INNERMOST = re.compile(r"\{([^{}]*)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])(?!use|uni|one|eu)")
_SENTENCE = re.compile(r"(^|[.!?] )([a-z])")
_FIRST_PERSON = re.compile(r"\bi\b")


def phrases(text: str) -> tuple[str, ...]:
    """Split a comma- or newline-separated list into its phrases."""
    return tuple(part.strip() for part in re.split(r"[,\n]", text) if part.strip())


def rows(columns: str, text: str) -> tuple[dict[str, str], ...]:
    """Read a table, one row a line with cells between semicolons, into one dict a row keyed by the column names."""
    names = columns.split()
    return tuple(
        dict(zip(names, (cell.strip() for cell in line.split(";")), strict=True)) for line in text.strip().splitlines()
    )


def generator(*key: object) -> random.Random:
    """Return a random generator that depends on `key` only, the same in every process."""
    return random.Random("/".join(map(str, key)))  # noqa: S311 – text, not secrets


def expand(template: str, rules: Rules, rng: random.Random, bound: Mapping[str, str] | None = None) -> str:
    """Fill every slot of `template` and tidy the result.

    `bound` gives slots a value beforehand. A slot without a rule raises KeyError.
    """
    values = dict(bound or {})

    def fill(match: re.Match[str]) -> str:
        slot = match.group(1)
        if "|" in slot:
            return rng.choice(slot.split("|"))
        if slot not in values:
            values[slot] = rng.choice(rules[slot if slot in rules else slot.rstrip("0123456789")])
        return values[slot]

    while _INNERMOST.search(template):
        template = _INNERMOST.sub(fill, template)
    return tidy(template)


def tidy(text: str) -> str:
    """Squeeze spaces, choose between *a* and *an*, write *I* and the first letter of each sentence large."""
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ([.,!?])", r"\1", text)
    text = _ARTICLE.sub(r"\1n ", text)
    text = _FIRST_PERSON.sub("I", text)
    return _SENTENCE.sub(lambda match: match.group(1) + match.group(2).upper(), text)
