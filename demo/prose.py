"""Plain prose about the demo's small world: what the model reads besides chats."""

import random
from collections.abc import Mapping, Sequence

from demo import vocabulary as words
from demo import world
from demo.grammar import expand

_SCENES: tuple[tuple[Sequence[Mapping[str, str]], Sequence[str]], ...] = (
    (world.ANIMALS, (
        "{a|one|the old} {x} {came out of|lived near|waited in} {home}.",
        "the {x} is {colour} and eats {food}.",
        "{in the evening|at noon|before dawn} the {x} {habit}.",
        "{name} {saw|drew|followed} the {x} near {home}.",
        "a {x} in {home} {is a common sight|was a surprise to {name2}}.",
    )),
    (world.DISHES, (
        "{name} {made|cooked|wanted to make} {x} {for everyone|for {name2}|again}.",
        "{it needs|for that you need} {base}, and about {time}.",
        "they ate {x} with {side}.",
        "the {recipe|smell} of {x} was {good|known in every house}.",
    )),
    (world.PLACES, (
        "{name} went to {x} {when}.",
        "{name} and {name2} {wanted to|liked to|could} {do} there.",
        "it was {weather} at {x}.",
        "they {had|forgot|took} {bring} {with them|for the day}.",
    )),
    (world.OBJECTS, (
        "{name} {bought|borrowed|found|lost} a {x} {when}.",
        "a {x} is a {kind}, and with it you can {use}.",
        "the {x} lay {on the table|under the bed|beside the door}.",
        "{name2} used the {x} to {use}.",
    )),
    (world.JOBS, (
        "{name} is a {x} and works in {where}.",
        "a {x} {does}.",
        "the {x} {came late|was in a good mood|told {name2} about the work} {when}.",
    )),
    (world.TASKS, (
        "{name} had to {x} {when}.",
        "first you {first}, {name} said. Then you {then}.",
        "it is not hard to {x} if you take your time.",
    )),
    (world.WEATHER, (
        "{the morning|the day|tuesday|the week} was {x}.",
        "{name} wore {wear} and wanted to {plan}.",
        "on {x} days people {like to|often} {plan}.",
    )),
    (world.THINGS, (
        "{x} is {colour}, and you find it {where}.",
        "{name} painted {x} {where}.",
    )),
    (world.TROUBLES, (
        "the {x} was {fault} {when}, so {name} had to {fix}.",
        "{name} said the {x} was {fault}.",
    )),
    (world.PLANS, (
        "{name} {wanted|planned|hoped} to {x}.",
        "{name2} knew what to do: {tip}.",
    )),
    (world.OPPOSITES, (
        "{something|the old house|the road} was {x}, not {y}.",
        "{name} found it too {x}; {name2} found it too {y}.",
    )),
    (({},), (
        "{name} wrote a {thing} {about {skill}|for {person}} {when}.",
        "the {thing} was {bad}, but {name} did not mind.",
        "{person} was {slow} {when}.",
        "{person} and {name} talked about {skill} {when}.",
        "{rival} was {slow} and {name} laughed.",
        "people {errs} {when}, {name} thought.",
        "it is bad to {errs}, and it is bad to {errs2}.",
        "nobody likes {person} to be {slow} or {slow2}.",
        "{name} complains: the {thing} is {bad} and {bad2}.",
        "{person} {made a mistake|was wrong}, and the {thing} was {bad}.",
        "{name} did well and was {kind|happy|patient} {when}.",
        "{name} is good at {skill} and at {skill2}.",
        "{name} {invented|told|read} a tale of {topic} and {topic2}.",
        "{rival} can be {slow}, {person} said, and {person2} too.",
        "{name} {saw|thought of|spoke of} {topic} {when}.",
        "they counted {much} {items} {when}.",
        "there were {much} {items} in the {old|new} book of {name}.",
    )),
)  # fmt: skip

_WHEN = ("today", "on monday", "in spring", "last week", "in the evening", "early", "before lunch", "on a quiet day")


def rules(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the slots of prose, which knows every word of the world; only `names` differ between the splits."""
    merged = {key: words.COMPLAINT[key] + words.COMPLAINT_HELDOUT[key] for key in words.COMPLAINT}
    stories = {key: words.STORY[key] + words.STORY_HELDOUT[key] for key in words.STORY}
    return {
        **merged,
        **stories,
        "topic": stories["who"] + stories["what"],
        "when": merged["when"] + _WHEN,
        "name": names,
    }


def paragraph(rng: random.Random, split: str) -> str:
    """Return one paragraph of six to nine sentences about two or three subjects and the same two people."""
    names = words.NAMES if split == "train" else words.NAMES_HELDOUT
    slots = rules(names)
    people = dict(zip(("name", "name2"), rng.sample(names, 2), strict=True))
    subjects = [(rng.choice(table), templates) for table, templates in rng.sample(_SCENES, 3)]
    sentences = []
    for row, templates in subjects:
        for template in rng.sample(templates, min(len(templates), rng.randint(2, 3))):
            sentences.append(expand(template, slots, rng, {**row, **people}))
    return " ".join(sentences)
