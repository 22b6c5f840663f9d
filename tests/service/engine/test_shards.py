"""Where a checkpoint's matrices lie on a rank. The layers stand in for vLLM's, which need a process group to exist.

vLLM warns as it is imported, so the questions are asked in a process of its own.
"""

import json

from tests.forked import forked_program

PROBE = """
import json
from vllm.model_executor.layers import linear
from service.engine.shards import shards

def layer(cls, rank, size, **sizes):
    made = object.__new__(cls)
    made.__dict__.update(tp_rank=rank, tp_size=size, **sizes)
    return made

def told(name, made, packed=None):
    return [[s.module, s.rows.start, s.rows.stop, s.columns.start, s.columns.stop, s.offset, s.copy]
            for s in shards(name, made, packed or {})]

heads = dict(input_size=256, num_heads=2, num_kv_heads=1, head_size=32, v_head_size=32, num_kv_head_replicas=2)
print("TOLD" + json.dumps({
    "row": told("model.layers.3.mlp.down_proj",
                layer(linear.RowParallelLinear, 1, 2, input_size=96, output_size=64, input_size_per_partition=48)),
    "qkv": [told("model.layers.0.self_attn.qkv_proj", layer(linear.QKVParallelLinear, rank, 4, **heads),
                 {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}) for rank in range(4)],
    "merged": told("model.layers.0.mlp.gate_up_proj",
                   layer(linear.MergedColumnParallelLinear, 1, 2, input_size=64, output_sizes=[96, 96]),
                   {"gate_up_proj": ["gate_proj", "up_proj"]}),
    "column": told("model.decoder.layers.2.fc1",
                   layer(linear.ColumnParallelLinear, 0, 2, input_size=64, output_size_per_partition=96)),
    "outside": told("lm_head", layer(linear.ReplicatedLinear, 0, 1, input_size=64, output_size=9)),
}))
"""


def test_each_rank_holds_its_part_and_copies_are_counted_once():
    run = forked_program(PROBE)
    assert "TOLD" in run.stdout, run.stderr[-2000:]
    shards = json.loads(run.stdout.partition("TOLD")[2])
    assert shards["row"] == [["layers.3.mlp.down_proj", 0, 64, 48, 96, 0, False]]
    q, k, v = ([rank[i] for rank in shards["qkv"]] for i in range(3))
    assert [part[1:3] for part in q] == [[0, 64], [64, 128], [128, 192], [192, 256]]
    assert [part[1:3] for part in k] == [part[1:3] for part in v] == [[0, 32], [0, 32], [32, 64], [32, 64]]
    assert [part[6] for part in k] == [False, True, False, True]
    assert [part[5] for part in shards["qkv"][0]] == [0, 64, 96]
    assert {part[0] for part in q} == {"layers.0.self_attn.q_proj"}
    assert [[*part[1:3], part[5]] for part in shards["merged"]] == [[48, 96, 0], [48, 96, 48]]
    assert shards["column"] == [["layers.2.fc1", 0, 96, 0, 64, 0, False]]
    assert shards["outside"] == []
