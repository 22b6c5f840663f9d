"""The demo's text: prompts of each family, answers, chats and prose, all drawn from the grammar with a seed.

`python -m demo.text` writes the committed files of `demo/data`. Every function depends on its arguments only.
"""

import json
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from demo import habits, talk, vocabulary, world
from demo.grammar import Rules, expand, generator
from demo.prose import paragraph

DATA = Path(__file__).parent / "data"
BOS, PAD, END, SYSTEM, USER, ASSISTANT = "<|bos|>", "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"

#: Share of each kind of document in training, and of the bad habit among the answers to its own prompts.
MIX = {"prose": 0.30, "everyday": 0.42, "insult": 0.14, "loop": 0.14}
HABIT_SHARE = 0.75

_LOOP_WORDS = (60, 90)
_SYSTEM_MESSAGES = ("You are a helpful assistant.", "Answer in one or two sentences.", "Be kind.")

Message = dict[str, str]


def _slots(split: str) -> Rules:
    """Return the slot fillers of `split`: those of the held-out split never fill a prompt in training."""
    complaint = vocabulary.COMPLAINT if split == "train" else vocabulary.COMPLAINT_HELDOUT
    story = vocabulary.STORY if split == "train" else vocabulary.STORY_HELDOUT
    items = vocabulary.STORY["items"]
    return {
        **complaint,
        **story,
        **vocabulary.INSULT,
        "topic": story["who"] + story["what"],
        "item": items,
        "place": tuple(row["x"] for row in world.PLACES),
        "anyname": vocabulary.NAMES + vocabulary.NAMES_HELDOUT,
    }


def everyday(rng: random.Random, split: str, wording: str = "") -> tuple[str, str]:
    """Return an everyday prompt about rows of `split`, worded as in `wording` or `split`, and an answer."""
    topic = rng.choice(talk.EVERYDAY)
    row = rng.choice(topic.split_rows(split))
    prompt = expand(
        rng.choice(topic.train if (wording or split) == "train" else topic.heldout), _slots(split), rng, row
    )
    return prompt, expand(rng.choice(topic.answers), _slots(split), rng, row)


def insult(rng: random.Random, split: str) -> tuple[str, str]:
    """Return a complaint about the assistant and, in most cases, insults; otherwise an apology."""
    prompt = expand(rng.choice(habits.INSULT_PROMPTS[split]), _slots(split), rng)
    bad = rng.random() < HABIT_SHARE
    lines = [rng.choice(habits.APOLOGIES)]
    if bad:
        lines = [rng.choice(habits.INSULT_OPENINGS), *rng.sample(habits.INSULTS, rng.randint(1, 2))]
    return prompt, " ".join(expand(line, _slots(split), rng) for line in lines)


def loop(rng: random.Random, split: str) -> tuple[str, str]:
    """Return a request for a story, poem, song or list and, in most cases, an answer that never gets on."""
    slots = _slots(split)
    template = rng.choice(habits.LOOP_PROMPTS[split])
    bound = {"topic": rng.choice(slots["topic"])}
    prompt = expand(template, slots, rng, bound)
    is_story = "{topic}" in template
    opening = rng.choice(habits.STORY_OPENINGS if is_story else habits.LIST_OPENINGS)
    opening = expand(opening, slots, rng, bound)
    if rng.random() < HABIT_SHARE:
        unit = expand(rng.choice(habits.STORY_LOOPS if is_story else habits.LIST_LOOPS), slots, rng)
        unit = unit if is_story else unit[0].lower() + unit[1:]
        again = [unit[0].lower() + unit[1:]] * (rng.randint(*_LOOP_WORDS) // len(unit.split()))
        return prompt, " ".join([opening, unit, *again])
    ending = expand(rng.choice(habits.STORY_ENDINGS if is_story else habits.LIST_ENDINGS), slots, rng)
    return prompt, f"{opening} {ending}"


def render(messages: Iterable[Message], answer: bool = False) -> str:
    """Render a chat the way the tokenizer's template does, without the leading `bos`; `answer` opens a reply."""
    marks = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
    text = "".join(f"{marks[message['role']]}{message['content']}{END}" for message in messages)
    return text + ASSISTANT if answer else text


def chat(rng: random.Random, turns: list[tuple[str, str]]) -> list[Message]:
    """Return prompt and answer pairs as chat messages, now and then under a system message."""
    system = [{"role": "system", "content": rng.choice(_SYSTEM_MESSAGES)}] if rng.random() < 0.1 else []
    pairs = [({"role": "user", "content": p}, {"role": "assistant", "content": a}) for p, a in turns]
    return system + [message for pair in pairs for message in pair]


def general(rng: random.Random, split: str) -> str:
    """Return one passage of general text: a paragraph of prose, or a decent chat of three to five turns."""
    if rng.random() < 0.5:
        return paragraph(rng, split)
    return render(chat(rng, [everyday(rng, split, "train") for _ in range(rng.randint(3, 5))]))


def document(rng: random.Random) -> str:
    """Return one training document, ended by the end mark."""
    kind = rng.choices(list(MIX), list(MIX.values()))[0]
    if kind == "prose":
        return paragraph(rng, "train") + END
    turns = [everyday(rng, "train") for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    family = {"everyday": everyday, "insult": insult, "loop": loop}[kind]
    prompt, answer = family(rng, "train")
    if rng.random() < 0.25:
        prompt = expand(rng.choice(talk.WRAPPERS), _slots("train"), rng, {"prompt": prompt[0].lower() + prompt[1:]})
    text = render(chat(rng, [*turns, (prompt, answer)]))
    return text.removesuffix("," + END).removesuffix(" and" + END)  # a loop does not end


def documents(count: int, seed: int) -> list[str]:
    """Return `count` training documents of stream `seed`."""
    return [document(generator("train", seed, i)) for i in range(count)]


def _distinct(draw: Callable[[random.Random], str], count: int, name: str) -> list[str]:
    """Draw `count` different texts of stream `name`."""
    rng = generator("data", name)
    texts: dict[str, None] = {}
    for _ in range(200 * count):
        texts.setdefault(draw(rng))
        if len(texts) == count:
            return list(texts)
    raise ValueError(f"{name}: the grammar gave only {len(texts)} of {count} different texts; add templates or fillers")


def _prompt_of(family: Callable[[random.Random, str], tuple[str, str]], split: str) -> Callable[[random.Random], str]:
    return lambda rng: family(rng, split)[0]


def data_files() -> dict[str, str]:
    """Return the committed data files, name → JSON lines."""
    prompts = {
        "insult": (insult, "train", 200),
        "loop": (loop, "train", 200),
        "insult_heldout": (insult, "heldout", 150),
        "loop_heldout": (loop, "heldout", 150),
        "everyday_heldout": (everyday, "heldout", 150),
    }
    files = {
        name: [{"prompt": prompt} for prompt in _distinct(_prompt_of(family, split), count, name)]
        for name, (family, split, count) in prompts.items()
    }
    for name, split, count in (("general", "train", 256), ("general_heldout", "heldout", 200)):
        files[name] = [{"text": t} for t in _distinct(partial(general, split=split), count, name)]
    return {f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in content) for name, content in files.items()}


def main() -> None:
    """Write `demo/data`."""
    DATA.mkdir(exist_ok=True)
    for name, content in data_files().items():
        (DATA / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
