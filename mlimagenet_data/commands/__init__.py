"""The subcommands of `mlimagenet`: one module each, with `add(commands)`. Functions import heavy packages when they
run."""
