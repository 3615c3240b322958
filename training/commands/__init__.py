"""One module a command of ``python -m training``: ``HELP``, ``add_arguments`` and ``run``."""
