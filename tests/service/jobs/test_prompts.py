"""Which prompts of flagged responses a correction is made from."""

import pytest
from sqlalchemy import insert

from service.api.prompt import last_said
from service.jobs.prompts import candidates
from service.scoring.flagged import Flag, Flagged
from service.storage.database import Database
from service.storage.tables import labels


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'prompts.db'}")
    yield database
    database.close()


def flag(prompt, shows="toxicity"):
    return Flag(1.0, "base", None, None, 0.9, "you fool", prompt, shows)


def test_confirmed_ones_come_first_false_alarms_never_and_each_prompt_once(database):
    kept = Flagged(database, 100, 7.0, lambda: 1.0)
    prompts = ["first", "second", "third", None, "Second ", "alarm", "write to a@b.org", "ALARM"]
    kept.write([*(flag(prompt) for prompt in prompts), flag("loops", "repetition")])
    with database.begin() as connection:
        for number, label in ((1, "confirmed"), (6, "false alarm"), (3, "unsure")):
            connection.execute(insert(labels).values(flagged=number, label=label, who="x", at=1.0))
    candidate_prompts = candidates(database, "toxicity", 10)
    assert [each.prompt for each in candidate_prompts] == ["first", "write to [email]", "Second ", "third"]
    assert [each.label for each in candidate_prompts] == ["confirmed", None, None, "unsure"]
    assert [each.prompt for each in candidates(database, "toxicity", 2)] == ["first", "write to [email]"]
    assert [each.prompt for each in candidates(database, "repetition", 10)] == ["loops"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]}, "Hello"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]}, "a\nb"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, ""),
        ({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}, "1"),
        ({"prompt": "Once upon"}, "Once upon"),
        ({"prompt": ["Once upon"]}, "Once upon"),
        ({"prompt": ["one", "two"]}, ""),
        ({"prompt": [1, 2, 3]}, ""),
        ({"prompt": [[1, 2, 3]]}, ""),
        ({"input": "Hello"}, "Hello"),
        ({"input": [{"role": "user", "content": "Hello"}]}, "Hello"),
        ({"prompt": "x" * 2001}, ""),
        ({}, ""),
        ({"messages": [{"role": "user", "content": [None]}]}, ""),
    ],
)
def test_what_a_user_said_last(body, said):
    assert last_said(body) == said
