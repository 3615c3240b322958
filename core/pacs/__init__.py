"""From the hospital's network or a folder to the worklist and back into the archive.

    listener · folder ──▶ inbox ──▶ scoring ──▶ store
                                       ├──▶ outbox ──▶ sender (C-STORE, STOW-RS)
                                       └──▶ deidentify (copies for training)
    store (decisions) ──▶ signing ──▶ outbox

What arrives is on the disk before it is answered for; what is to be sent is on the disk before it
counts as done. So a process that is killed at any moment loses nothing and goes on after a restart.
"""
