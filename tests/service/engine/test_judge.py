"""What the judge asks the engine for and makes of its answer; the real engine answers in test_coherence."""

from __future__ import annotations

import asyncio
import warnings
from types import SimpleNamespace

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of vLLM's own imports
    from vllm.logprobs import Logprob

    from service.engine.judge import PRIORITY, NotJudgedError, judge
    from service.engine.observer import response_id


class Client:
    """Gives each token of a prompt the log-probability −token/10; the first one, as vLLM does, none."""

    def __init__(self, longest=64, sign=-1.0, *, known=True):
        self.model_config = SimpleNamespace(max_model_len=longest)
        self.sign, self.known, self.asked = sign, known, []

    async def generate(self, prompt, params, request_id, *, priority):
        self.asked.append((prompt, params, priority))
        ids = prompt["prompt_token_ids"]
        rows = [None, *({token: Logprob(self.sign * token / 10)} for token in ids[1:])]
        yield SimpleNamespace(prompt_logprobs=rows if self.known else None)


def judged(client, context, said):
    return asyncio.run(judge(client, context, said))


def test_the_tokens_of_the_response_alone_are_judged_without_a_mask_and_after_everybody():
    client = Client()
    assert judged(client, [7, 8], [10, 20, 30]) == pytest.approx(-2.0)
    prompt, params, priority = client.asked[0]
    assert prompt["prompt_token_ids"] == [7, 8, 10, 20, 30]
    assert (params.max_tokens, params.prompt_logprobs, params.detokenize) == (1, 0, False)
    assert priority == PRIORITY > 1000


def test_what_is_longer_than_the_model_is_cut():
    client = Client(longest=11)
    judged(client, list(range(1, 50)), list(range(50, 90)))
    assert client.asked[0][0]["prompt_token_ids"] == [45, 46, 47, 48, 49, 50, 51, 52, 53, 54]


@pytest.mark.parametrize("client", [Client(known=False), Client(sign=1.0)])
def test_an_engine_that_tells_no_log_probabilities_judges_nothing(client):
    with pytest.raises(NotJudgedError):
        judged(client, [7], [10])


@pytest.mark.parametrize(
    ("request_id", "id"),
    [
        ("chatcmpl-a1", "chatcmpl-a1"),
        ("chatcmpl-mine_1", "chatcmpl-mine_1"),
        ("cmpl-a1-0", "cmpl-a1"),
        ("cmpl-mine-7-12", "cmpl-mine-7"),
        ("resp_a1_0", "resp_a1"),
        ("mine_0", "mine"),
    ],
)
def test_the_id_that_a_client_gets_follows_from_the_engines(request_id, id):
    assert response_id(request_id) == id
