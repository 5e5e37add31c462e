"""The subcommands of `mlimagenet`: one module each, with `add(commands)`; heavy imports are inside functions."""
