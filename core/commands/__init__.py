"""One module a command of ``python -m core``: ``HELP``, ``add_arguments`` and ``run``."""
