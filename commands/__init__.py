"""The commands, one module each, thin. Heavy imports wait until one runs: `excise --help` must not wait for torch."""
