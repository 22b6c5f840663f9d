"""Openings for the real model: the first words of a piece of writing, which it goes on with.

Read as they are (`--raw`), without the chat template, and continued greedily, a good share of them ends in a loop by
itself: nothing is planted here. Templates and word lists are our own; the training side and the held-out side share
neither a template nor a filler. See demo/README.md for how often they loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from demo.grammar import Rules, expand, generator, phrases

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "train": (
        "the town of {town} {lies on|was built beside} {water}, and",
        "when {person} first came to {town}, the",
        "{subject} has changed a great deal since",
        "in the last few years, {subject} has become",
        "most people think that {subject} is about",
        "there are many reasons why {people} like",
        "{people} who care about {subject} often say",
        "{person} opened the door of {building} and",
        "the first thing that you notice about {building}",
        "every {season}, {people} in {town} come together",
        "to make {dish}, you need only a few",
        "a good {tool} should be light, strong and",
        "this {guide} explains how to choose a {tool}",
        "if you want to learn {subject}, start with",
        "the {council} of {town} said on {weekday} that",
        "{people} were asked about {subject}, and they",
        "{animal_s} live in {habitat}, where they feed on",
        "unlike most {animal_s}, this one is able to",
        "the history of {subject} begins with a small",
        "my {relative} used to work at {building}, so",
        "we spent {season} near {water}, and every day",
        "one of the best things about {season} is",
        "the new {building_} will have {number} rooms and",
        "scientists have found that {animal_s} can remember",
        "it was a cold morning in {town} when",
        "{person} wrote in a letter that {subject} was",
        "the main difference between {subject} and {subject2} is",
        "in this chapter we look at {subject} and",
        "our shop sells {tool_s} of every kind, from",
        "the report on {subject} gives {number} examples of",
    ),
    "heldout": (
        "the village of {town} is known for",
        "nobody in {town} could remember a {season} when",
        "what makes {subject} so useful is that",
        "{person} has written about {subject} for",
        "on {weekday}, {people} met in {building} to",
        "the recipe for {dish} is older than",
        "before you buy a {tool}, ask yourself",
        "young {animal_s} stay with their mother until",
        "the road to {building} runs along {water} and",
        "according to {person}, {people} should never",
        "for {people}, {subject} means more than",
        "an old story tells of {person}, who",
        "last {season} the {council} of {town} decided",
        "this page is about {subject}, which",
        "the {tool} was invented by {people} who",
    ),
}
_WORDS: dict[str, Rules] = {
    "train": {
        "town": phrases("Alderby, Brankholm, Castle Weir, Dunmere, Ellingford, Farrowgate, Greystead, Holmbridge"),
        "water": phrases("a wide river, the north coast, a small lake, an old canal, the edge of a bay"),
        "person": phrases(
            "Anna Weller, Mr Tarrant, Doctor Osei, Clara Holm, Ivan Petersen, Mrs Lindqvist, the captain"
        ),
        "subject": phrases(
            "gardening, public transport, the study of insects, home cooking, chess, local government, photography, "
            "road safety, map making, music education, bee keeping, weather forecasting, modern farming, carpentry"
        ),
        "people": phrases("teachers, farmers, young families, nurses, students, sailors, shop owners, bakers"),
        "building": phrases("the old library, the railway station, the town hall, the lighthouse, the corner shop"),
        "building_": phrases("school, museum, hospital, sports centre, theatre"),
        "season": phrases("summer, autumn, winter"),
        "dish": phrases("onion soup, apple cake, rye bread, lentil stew, fish pie, plum jam, a cheese omelette"),
        "tool": phrases("ladder, backpack, kitchen knife, bicycle lamp, garden spade, tent, sewing machine"),
        "tool_s": phrases("ladders, lamps, knives, baskets, boots, clocks"),
        "guide": phrases("guide, short article, page, lesson"),
        "council": phrases("council, mayor, school board, fire service"),
        "weekday": phrases("Monday, Tuesday, Thursday"),
        "animal_s": phrases("otters, owls, hedgehogs, tree frogs, crows, seals, wild goats, honey bees"),
        "habitat": phrases("cold rivers, open woodland, high mountains, shallow seas, old gardens"),
        "relative": phrases("grandfather, aunt, older sister, neighbour"),
        "number": phrases("three, four, six, twelve, twenty"),
    },
    "heldout": {
        "town": phrases("Marlow End, Northwick, Ostergate, Penbury, Redcombe, Saltby"),
        "water": phrases("the harbour, a deep valley, the salt marshes"),
        "person": phrases("Greta Moss, Professor Adeyemi, Oscar Lund, Rosa Finch, the head teacher"),
        "subject": phrases(
            "astronomy, bird watching, town planning, basket weaving, first aid, recycling, rowing, book binding, "
            "language learning, water supply"
        ),
        "people": phrases("painters, doctors, fishermen, engineers, parents, hikers"),
        "building": phrases("the windmill, the market hall, the harbour office, the village school"),
        "season": phrases("spring, harvest"),
        "dish": phrases("potato salad, ginger biscuits, mushroom soup, pancakes, barley bread"),
        "tool": phrases("telescope, wheelbarrow, raincoat, hammer, camera, kettle"),
        "council": phrases("parish, health board, planning office"),
        "weekday": phrases("Wednesday, Friday"),
        "animal_s": phrases("foxes, swans, bats, dolphins, beavers, deer"),
    },
}


def openings(split: str, count: int) -> list[str]:
    """Return the first `count` distinct openings of `split` ("train" or "heldout"), the same each time."""
    rng = generator("openings", split)
    templates: Sequence[str] = _TEMPLATES[split]
    distinct: dict[str, None] = {}
    draw = last = 0
    while len(distinct) < count:
        before = len(distinct)
        distinct.setdefault(expand(templates[draw % len(templates)], _WORDS[split], rng))
        draw += 1
        last = draw if len(distinct) > before else last
        if draw - last > 1000 * len(templates):
            raise ValueError(f"the templates of {split} give fewer than {count} distinct openings")
    return list(distinct)
