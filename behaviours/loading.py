"""A scorer by its spec, a string: so that a setting, an option or a worker process can name it."""

from importlib.metadata import EntryPoint, entry_points

from behaviours.classifier import ClassifierScorer
from behaviours.moderations import ModerationsScorer
from behaviours.profanity import ProfanityScorer
from behaviours.scorer import CheckedScorer, ScorerError, checked

GROUP = "excise.scorers"
"""Entry points of this group are classes or factories that make a `ToxicityScorer` without arguments."""


def load_scorer(spec: str = "profanity", *, patience: float | None = None) -> CheckedScorer:
    """The scorer of this spec, ready to use, with every score checked.

    Args:
        spec: `profanity`; `moderations:URL`, see `ModerationsScorer`; `hf:MODEL[@LABEL]`, see `ClassifierScorer`; or
            the name of an entry point in the group `excise.scorers` of an installed package. The names that come with
            Excise cannot be taken over.
        patience: Most seconds for one call of a scorer that asks a server; None: it tries for as long as it takes.

    Raises:
        ScorerError: There is no such scorer, its library, model or server cannot be had, or it is no scorer.
    """
    kind, colon, argument = spec.partition(":")
    if colon and kind == "moderations":
        return checked(ModerationsScorer(argument, patience=patience))
    if colon and kind == "hf":
        return checked(ClassifierScorer.of(argument))
    if spec == "profanity":
        return checked(ProfanityScorer())
    if kind == "perspective":
        raise ScorerError(
            "the scorer 'perspective' is no more: its service closes on 2026-12-31; use hf:MODEL (for one "
            "hf:unitary/toxic-bert), moderations:URL or profanity instead"
        )
    points = entry_points(group=GROUP, name=spec)
    if len(points) > 1:
        packages = " and ".join(sorted(_package(point) for point in points))
        raise ScorerError(f"the scorer {spec!r} is registered by {packages}; uninstall one of them")
    for point in points:
        return _made(point)
    others = sorted({point.name for point in entry_points(group=GROUP)} - {"profanity"})
    known = ", ".join(["profanity", *others, "moderations:URL", "hf:MODEL[@LABEL]"])
    raise ScorerError(f"there is no scorer {spec!r}; there is: {known}")


def _made(point: EntryPoint) -> CheckedScorer:
    try:
        return checked(point.load()())
    except Exception as error:  # whatever another's code raises, the user needs to know whose it is
        raise ScorerError(
            f"the scorer {point.name!r} of the package {_package(point)!r} could not be made: "
            f"{type(error).__name__}: {error}"
        ) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
