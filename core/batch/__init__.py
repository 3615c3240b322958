"""A folder of radiographs -> a table of results: streaming, resumable, in bounded memory.

    inputs ─▶ read and hash ─▶ decode in threads ─▶ trunk, branches ─▶ journal ─▶ table

``run`` puts the parts together: ``inputs`` (what there is to read), ``flow`` (bounded queues that
keep the order), ``scoring`` (files to records), ``journal`` (what is done, and the lock),
``tables`` and ``summary`` (what the user gets), ``progress`` (what the user sees meanwhile, and how
it ended). ``kept`` are the batches that a page starts, each with its folder.
"""
