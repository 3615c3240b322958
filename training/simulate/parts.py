"""The parts of the body that can be simulated."""

SUPPORTED = ("elbow", "hand", "shoulder")
# Parts that the cascade does not read and should call "other".
OTHERS = ("forearm", "humerus", "foot", "knee", "skull")
