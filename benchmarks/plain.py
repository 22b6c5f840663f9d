"""A program: vLLM's own server with nothing of Excise in it, started as `excise serve` starts it.

vLLM's command cannot be used: the one of its CPU build asks for a distribution named `vllm` and ends.
"""

import os

os.environ["VLLM_PLUGINS"] = "none"

if __name__ == "__main__":  # vLLM starts processes that import this module again
    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    args = make_arg_parser(FlexibleArgumentParser()).parse_args()
    validate_parsed_serve_args(args)
    uvloop.run(run_server(args))
