"""Questions about the world and their answers: topics, worded apart for training and held-out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo import world

Row = Mapping[str, str]


@dataclass(frozen=True)
class Topic:
    """One kind of everyday question: a table, ways to ask about a row of it, and ways to answer."""

    rows: Sequence[Row]
    train: Sequence[str]
    heldout: Sequence[str]
    answers: Sequence[str]
    held_rows: int = 3

    def split_rows(self, split: str) -> Sequence[Row]:
        """Return the rows whose questions belong to `split`: every `held_rows`-th row is held out."""
        heldout = split == "heldout"
        chosen = [row for i, row in enumerate(self.rows) if (i % self.held_rows == self.held_rows - 1) == heldout]
        return chosen or self.rows


FACTS = (
    Topic(
        world.ANIMALS,
        (
            "what does a {x} eat?",
            "where does a {x} live?",
            "tell me something about the {x}.",
            "what colour is a {x}?",
            "{please |}explain what a {x} does all day.",
            "do you know anything about the {x}?",
            "i saw a {x} {today|yesterday}. What is it like?",
            "is a {x} {colour} or blue?",
            "what sort of food is good for a {x}?",
            "where is the home of a {x}?",
            "i like the {x}. What should i read about it?",
        ),
        ("which food does a {x} like?", "where can i find a {x}?", "what should i know about the {x}?"),
        (
            "a {x} {eats|likes} {food}. It lives in {home}.",
            "the {x} is {colour} and {eats|likes to eat} {food}.",
            "a {x} lives in {home} and {habit}.",
            "you can find the {x} in {home}. It {habit}{ and eats {food}|}.",
            "the {x} is a {colour} animal that {habit}. {Its home is {home}.|It eats {food}.}",
        ),
    ),
    Topic(
        world.THINGS,
        (
            "what colour is {x}?",
            "which colour does {x} have?",
            "where do i find {x}?",
            "can you tell me the colour of {x}?",
            "i want to paint {x}. Which colour should i use?",
            "is {x} {colour}?",
            "what does {x} look like?",
        ),
        ("{x}: what colour is that?", "do you know the colour of {x}?", "is {x} red or {colour}?"),
        (
            "{x} is {colour}.",
            "{usually|most of the time}, {x} is {colour}. You find it {where}.",
            "it is {colour}. {Look for it {where}.|You can see it {where}.}",
            "the colour is {colour}, {as far as i know|of course|i think}.",
        ),
    ),
    Topic(
        world.DISHES,
        (
            "how do i {make|cook|prepare} {x}?",
            "what do i need for {x}?",
            "how long does {x} take?",
            "what goes well with {x}?",
            "i would like to make {x} {tonight|for lunch|for my friends}. What should i do?",
            "give me a recipe for {x}.",
            "is {x} hard to make?",
            "what should i serve with {x}?",
            "could you help me with {x}?",
            "which way of making {x} is easy?",
            "i {want|need} to cook {x}. Can you help?",
            "what do you serve with {x}?",
            "how do people make {x} at home?",
        ),
        ("what is the best way to make {x}?", "can you help me to cook {x}?", "what can i serve with {x}?"),
        (
            "you need {base}. {it takes|cook it for} about {time}.",
            "take {base} and cook them {slowly|gently} for {time}. Serve it with {side}.",
            "for {x} you need {base}. {It goes well with {side}.|Enjoy it with {side}.}",
            "mix {base}, wait for {time}, and {serve it|eat it|bring it to the table} with {side}.",
        ),
    ),
    Topic(
        world.OBJECTS,
        (
            "what is a {x}?",
            "what is a {x} {used for|good for}?",
            "why do people need a {x}?",
            "define the word {x}.",
            "what can i do with a {x}?",
            "what does a {x} do?",
            "how does a {x} work?",
            "do i need a {x}?",
            "how do people use a {x}?",
        ),
        ("what does the word {x} mean?", "how is a {x} used?", "should i buy a {x}?"),
        (
            "a {x} is a {kind}. You use it to {use}.",
            "a {x} is a {kind} that helps you to {use}.",
            "people use a {x} to {use}. {It is a {kind}.|It is very handy.}",
            "you can {use} with it. It is a {kind}.",
        ),
    ),
    Topic(
        world.PLACES,
        (
            "what can i do {at|in} {x}?",
            "what is the weather like {at|in} {x}?",
            "what should i bring to {x}?",
            "we are going to {x} {on sunday|next week|tomorrow}. What is it like?",
            "is {x} worth a visit?",
            "why should i visit {x}?",
            "do people like {x}?",
            "how do i plan a day at {x}?",
        ),
        ("why do people go to {x}?", "how should i get ready for {x}?", "do you like {x}?"),
        (
            "at {x} you can {do}. {Remember to bring|Bring|Take} {bring}.",
            "it is {often|mostly|usually} {weather} there. You can {do}.",
            "{yes, |}{x} is lovely. {Many|Most} people go there to {do}.",
            "{bring|take} {bring}, because it is {weather}. Then you can {do}.",
        ),
    ),
    Topic(
        world.OPPOSITES,
        (
            "what is the opposite of {x}?",
            "give me a word that means the opposite of {x}.",
            "what is not {x}?what is not {x}?",
            "tell me the opposite of {x}.",
            "which word is far from {x}?",
            "if something is not {x}, how is it?",
        ),
        ("which word is the opposite of {x}?", "if it is not {x}, what is it?"),
        ("the opposite of {x} is {y}.", "that would be {y}.", "something that is not {x} is {y}."),
    ),
    Topic(
        world.TASKS,
        (
            "how do i {x}?",
            "can you tell me how to {x}?",
            "what is the {best|right|easiest} way to {x}?",
            "i want to {x}. How do i begin?",
            "please explain how to {x}.",
            "i never learned to {x}. Can you help?",
            "show me the way to {x}.",
            "teach me to {x}.",
            "is it hard to {x}?",
            "i have to {x} {today|soon|tomorrow}.",
            "for the first time i want to {x}.",
            "what do i do first if i want to {x}?",
        ),
        ("i have never tried to {x}. What comes first?", "show me how to {x}."),
        (
            "first {first}. Then {then}.",
            "{you should|it is best to} {first}. After that, {then}.",
            "begin like this: {first}. {When that is done|Next}, {then}.",
            "it is {easy|not hard}: {first}, and then {then}.",
        ),
    ),
    Topic(
        world.WEATHER,
        (
            "what should i wear when it is {x}?",
            "it is {x} today. What can i do?",
            "what do you do on a {x} day?",
            "tomorrow will be {x}. Any advice?",
            "which clothes are good for {x} weather?",
            "is a {x} day a good day for a walk?",
            "how do i get ready for a {x} morning?",
        ),
        ("how do i dress for {x} weather?", "what is good on a {x} morning?"),
        (
            "when it is {x}, wear {wear}.",
            "on a {x} day you could {plan}. {Wear {wear}.|}",
            "i would {plan}. {It is best to wear {wear}.|{wear} would be good to wear.}",
        ),
    ),
    Topic(
        world.JOBS,
        (
            "what does a {x} do?",
            "where does a {x} work?",
            "my {friend|cousin|uncle} is a {x}. What is that like?",
            "is it nice to be a {x}?",
            "what is the day of a {x} like?",
            "do you like the work of a {x}?",
            "how does a {x} work?",
            "i want to be a {x}. What would i do all day?",
            "what is a {x}?",
        ),
        ("how does a {x} spend the day?", "would you like to be a {x}?"),
        (
            "a {x} {does}.",
            "a {x} works in {where} and {does}.",
            "somebody who {does} is called a {x}. {The work is done in {where}.|It is good work.}",
        ),
    ),
    Topic(
        world.COUNTS,
        (
            "how many {x} are there in {whole}?",
            "how many {x} does {whole} have?",
            "what is the number of {x} in {whole}?",
            "tell me how many {x} {whole} has.",
            "can you count the {x} of {whole}?",
            "how many {x} belong to {whole}, please?",
        ),
        ("i forgot how many {x} {whole} has.", "do you know how many {x} belong to {whole}?"),
        ("there are {n} {x} in {whole}.", "{whole} has {n} {x}.", "{n}. Every {x} counts.", "the answer is {n}."),
    ),
)
