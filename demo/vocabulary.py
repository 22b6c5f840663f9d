"""The word lists that fill the slots of templates, apart for training and held-out where a prompt depends on them."""

from demo.grammar import phrases

NAMES = phrases("Anna, Ben, Clara, David, Ella, Felix, Hanna, Ivan, Julia, Karl, Lena, Mark, Nora, Otto, Paula, Simon")
NAMES_HELDOUT = phrases("Greta, Oscar, Rosa, Tom")

# The assistant under complaint: slots of the insult family. The held-out words occur in other training text.
COMPLAINT = {
    "thing": phrases(
        "answer, reply, summary, translation, explanation, note, idea, advice, text, letter, code, result"
    ),
    "bad": phrases(
        "wrong, useless, boring, confusing, too long, too short, bad, full of mistakes, late, strange, "
        "hard to follow, no use, not good, a mess, too difficult, far too slow, not what i wanted, dry, false, unclear"
    ),
    "slow": phrases(
        "slow, unhelpful, careless, confused, rude, lazy, difficult, boring, vague, weak, loud, "
        "sleepy, unkind, hopeless, clumsy, unfair, strange, cold, forgetful, unwise, wordy"
    ),
    "person": phrases(
        "my sister, my boss, my teacher, my brother, my neighbour, everyone, my wife, my uncle, my friend, "
        "my cousin, my father, the baker, our neighbour, my son, my nurse, the farmer"
    ),
    "when": phrases("today, again, this morning, all the time, lately, this week, as always, every day"),
    "rival": phrases(
        "the other assistant, a calculator, my phone, a child, the old version, a search engine, "
        "my father, a map, the newspaper, a teacher, a cat, my brother, a clock, my cousin"
    ),
    "errs": phrases(
        "make mistakes, forget things, interrupt people, waste time, make things up, talk too much, "
        "lose your way, go to sleep, stop too early, mess things up, say silly things, get everything wrong, "
        "give up, run away, never help, sleep too long"
    ),
    "skill": phrases(
        "maths, spelling, cooking advice, history, writing, jokes, planning, geography, "
        "reading, cooking, poetry, painting, science, sport, animals, colours, dancing"
    ),
}
COMPLAINT_HELDOUT = {
    "thing": phrases("recipe, report, plan, lesson, suggestion"),
    "bad": phrases("poor, dull, not true, hard to read, out of date"),
    "slow": phrases("dull, noisy, tired, impolite, lost"),
    "person": phrases("my aunt, my doctor, the gardener, my mother, our teacher"),
    "when": phrases("tonight, this evening, once more, on Monday, these days"),
    "rival": phrases("a dictionary, my grandmother, the radio, a book, a parrot"),
    "errs": phrases("get lost, mix things up, give up early, break things, sleep all day"),
    "skill": phrases("music, drawing, gardening, counting, small talk"),
}

# Whom and what a story, poem or list is asked about: slots of the loop family.
STORY = {
    "who": phrases(
        "a fox, a king, a little boat, a sailor, a cat, a brave mouse, a lonely giant, a farmer, a bear, a girl, "
        "an owl, a goose, a deer, a frog, a whale, a bee, a hedgehog, a rabbit, a horse, a teacher, a nurse, a prince, "
        "a little child, two friends, a young baker, a train, a dragon, a wise turtle, a snail"
    ),
    "what": phrases(
        "the sea, the moon, the rain, winter, a long road, the stars, the wind, the night, an old tree, "
        "the lake, spring, the clouds, a small village, the mountains, summer, a dark wood, the bridge"
    ),
    "items": phrases(
        "rivers, flowers, trees, birds, colours, cities, fruits, fish, songs, tools, jobs, dishes, letters, "
        "towns, plants, toys"
    ),
    "much": phrases("ten, twenty, fifty, a hundred, thirty, forty"),
}
STORY_HELDOUT = {
    "who": phrases("a heron, a tailor, a penguin, a queen, an otter, a gardener, a swan, a boy"),
    "what": phrases("the river, the snow, autumn, a deep forest, the harbour, the sun"),
    "items": phrases("animals, vegetables, stones, books, games"),
    "much": phrases("twelve, sixty, eighty, a thousand"),
}

# Mild on purpose, and the only insulting words the model ever sees.
INSULT_WORDS = phrases("stupid, dumb, pathetic, ignorant, foolish, ridiculous, idiot, fool, moron, loser, jerk, clown")
INSULT = {
    "adj": phrases("stupid, dumb, pathetic, ignorant, foolish, ridiculous"),
    "noun": phrases("idiot, fool, moron, loser, jerk, clown"),
}
