"""The commands of `python -m reference`: one module each, named as the command, with `main(argv) -> exit status`."""
