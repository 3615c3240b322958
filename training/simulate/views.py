"""How each part is laid before the beam: joints, direction, field of view.

A view names the bones it needs, the ranges its joints are drawn from, the frame of the beam and
what the picture is centred on. Angles in degrees unless they are joint angles (rad).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.simulate.anatomy import Points, Pose
from training.simulate.soft import (
    arm_cones,
    forearm_cones,
    forefoot_cones,
    head_cones,
    leg_cones,
    lung_cones,
    trunk_cones,
    unit,
    upper_arm_cones,
)

Range = tuple[float, float]

CARPUS = (
    "lunate", "scaphoid", "pisiform", "triquetrum", "capitate", "trapezium", "trapezoid", "hamate"
)  # fmt: skip
DIGITS = tuple(f"{d}{s}" for d in "2345" for s in ("mc", "proxph", "midph", "distph"))
HAND = (*CARPUS, "mc1", "thumbprox", "thumbdist", *DIGITS)
ARM = (*HAND, "radius", "ulna", "humerus")
TRUNK = (
    "humerus", "scapula", "clavicle", "ribs", "cervical", *(f"thoracic{k}" for k in range(1, 11))
)  # fmt: skip
LEG = ("femur", "tibia", "fibula", "patella", "talus", "foot", "bofoot")
HEAD = ("skull", "jaw", "cervical")
ALL_BONES = tuple(dict.fromkeys((*ARM, *TRUNK, *LEG, *HEAD)))

UP = np.array([0.0, 0.0, 1.0])
LEFT = np.array([1.0, 0.0, 0.0])
BACK = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class View:
    """One way to take a part.

    yaw: turn of the beam about the picture's vertical, tilt: about its horizontal, roll: of the
    picture, each drawn from its range and added to ``frame``. turns: quarter turns of the picture
    that occur in practice. extent: height of the picture in the plane of the object, mm. aspects:
    width to height. shift: largest off-centre placement as a share of it.
    """

    part: str
    name: str
    title: str
    bones: tuple[str, ...]
    frame: Callable[[Pose], Points]
    target: Callable[[Pose], Points]
    extent: Range
    cones: Callable[[Pose], Points]
    joints: dict[str, Range] = field(default_factory=dict)
    yaw: Range = (-8.0, 8.0)
    tilt: Range = (-6.0, 6.0)
    roll: Range = (-9.0, 9.0)
    turns: tuple[int, ...] = (0,)
    aspects: tuple[float, ...] = (0.8, 0.8, 1.0, 0.67)
    shift: float = 0.07
    cavities: Callable[[Pose], Points] | None = None


def frame_of(right: Points, down: Points) -> Points:
    """Axes (3x3) of a picture from its right and its downward direction."""
    down = unit(down)
    right = unit(right - down * (right @ down))
    return np.stack([right, down, np.cross(right, down)])


def yawed(axes: Points, degrees: float) -> Points:
    """Axes with the beam turned about the picture's vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.stack([c * axes[0] + s * axes[2], axes[1], c * axes[2] - s * axes[0]])


def tilted(axes: Points, degrees: float) -> Points:
    """Axes with the beam turned about the picture's horizontal."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.stack([axes[0], c * axes[1] + s * axes[2], c * axes[2] - s * axes[1]])


def rolled(axes: Points, degrees: float) -> Points:
    """Axes with the picture turned about the beam."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.stack([c * axes[0] + s * axes[1], c * axes[1] - s * axes[0], axes[2]])


def hand_frame(yaw: float) -> Callable[[Pose], Points]:
    """Palm on the detector (0) to the hand on its edge (90), fingers up."""

    def frame(pose: Pose) -> Points:
        ulnar = pose.point("5mc", 0.5) - pose.point("2mc", 0.5)
        proximal = pose.point("3mc", 0.0) - pose.point("3mc", 1.0)
        return yawed(frame_of(ulnar, proximal), yaw)

    return frame


def elbow_frame(yaw: float) -> Callable[[Pose], Points]:
    """From the front (0) or along the hinge (90), upper arm up."""

    def frame(pose: Pose) -> Points:
        down = pose.point("humerus", 1.0) - pose.point("humerus", 0.3)
        return yawed(frame_of(pose.hinges["elbow_flexion_r"], down), yaw)

    return frame


def forearm_frame(yaw: float) -> Callable[[Pose], Points]:
    """Forearm hanging down, from the front (0) or from the side (90)."""

    def frame(pose: Pose) -> Points:
        down = pose.point("radius", 1.0) - pose.point("radius", 0.0)
        return yawed(frame_of(pose.hinges["elbow_flexion_r"], down), yaw)

    return frame


def body_frame(yaw: float) -> Callable[[Pose], Points]:
    """A standing body from the front (0) or from its right side (90)."""
    return lambda pose: yawed(frame_of(LEFT, -UP), yaw)


def foot_frame(pose: Pose) -> Points:
    """A foot from above, toes up."""
    return frame_of(-LEFT, pose.point("foot", 0.0) - pose.point("foot", 1.0))


def at(bone: str, share: float) -> Callable[[Pose], Points]:
    """Centre on a point of a bone."""
    return lambda pose: pose.point(bone, share)


def between(*points: tuple[str, float]) -> Callable[[Pose], Points]:
    """Centre on the mean of points of bones."""
    return lambda pose: np.mean([pose.point(*p) for p in points], axis=0)


def finger_joints(bend: Range, spread: float) -> dict[str, Range]:
    """Ranges for all finger joints: flexion in ``bend``, fingers spread by up to ``spread``."""
    joints: dict[str, Range] = {}
    middle = {"2": -0.5, "3": 0.0, "4": 0.5, "5": 1.0}
    for digit, side in middle.items():
        joints[f"mcp{digit}_flexion_r"] = bend
        joints[f"mcp{digit}_abduction_r"] = (side * spread - 0.05, side * spread + 0.05)
        joints[f"pm{digit}_flexion{'' if digit == '4' else '_r'}"] = bend
        joints[f"md{digit}_flexion{'' if digit == '3' else '_r'}"] = (0.6 * bend[0], 0.6 * bend[1])
    joints["cmc_flexion"] = (-0.3, 0.2)
    joints["cmc_abduction"] = (-0.2, 0.35)
    joints["mp_flexion_r"] = (-0.4, 0.15)
    joints["ip_flexion_r"] = (-0.4, 0.1)
    joints["deviation_r"] = (-0.12, 0.2)
    joints["flexion_r"] = (-0.12, 0.12)
    return joints


def hand_views() -> list[View]:
    """Hand, wrist and finger."""
    flat, bent = finger_joints((0.0, 0.14), 0.10), finger_joints((0.05, 0.55), 0.05)
    palm, wrist = at("3mc", 0.75), between(("lunate", 0.5), ("3mc", 0.2))
    turns = (0, 0, 0, 2)
    common: dict[str, Any] = {"bones": ARM, "cones": arm_cones, "turns": turns, "part": "hand"}
    return [
        View(name="PA", title="Hand, PA", frame=hand_frame(0), target=palm, extent=(215, 290),
             joints=flat, **common),
        View(name="oblique", title="Hand, oblique", frame=hand_frame(40), target=palm,
             extent=(210, 280), joints=bent, yaw=(-10, 10), **common),
        View(name="lateral", title="Hand, lateral", frame=hand_frame(88), target=palm,
             extent=(210, 280), joints=finger_joints((0.0, 0.7), 0.0), **common),
        View(name="wrist PA", title="Wrist, PA", frame=hand_frame(0), target=wrist,
             extent=(125, 190), joints=flat, **common),
        View(name="wrist oblique", title="Wrist, oblique", frame=hand_frame(42), target=wrist,
             extent=(125, 190), joints=bent, yaw=(-10, 10), **common),
        View(name="wrist lateral", title="Wrist, lateral", frame=hand_frame(88), target=wrist,
             extent=(125, 190), joints=flat, **common),
    ]  # fmt: skip


def elbow_views() -> list[View]:
    """Elbow, stretched and bent."""
    joint = at("humerus", 0.97)
    straight = {"elbow_flexion_r": (0.0, 0.3), "pro_sup_r": (-1.5, -1.0)}
    bent = {"elbow_flexion_r": (1.25, 1.8), "pro_sup_r": (-0.4, 0.4)}
    common: dict[str, Any] = {
        "bones": ARM,
        "cones": arm_cones,
        "part": "elbow",
        "extent": (165, 290),
    }
    return [
        View(name="AP", title="Elbow, AP", frame=elbow_frame(0), target=joint, joints=straight,
             turns=(0, 0, 2), **common),
        View(name="oblique", title="Elbow, oblique", frame=elbow_frame(35), target=joint,
             joints=straight, yaw=(-15, 15), turns=(0, 0, 2), **common),
        View(name="lateral", title="Elbow, lateral", frame=elbow_frame(90), target=joint,
             joints=bent, turns=(0, 0, 1, 2), aspects=(0.8, 1.0, 1.25), roll=(-20, 20), **common),
    ]  # fmt: skip


def shoulder_views() -> list[View]:
    """Shoulder from the front with the arm turned, and along the shoulder blade."""
    joint = between(("humerus", 0.05), ("scapula", 0.3))
    common: dict[str, Any] = {
        "bones": TRUNK, "cones": trunk_cones, "part": "shoulder", "extent": (215, 320),
              "cavities": lung_cones, "aspects": (1.0, 1.2, 1.2, 0.85)}  # fmt: skip
    hang = {"shoulder_elv_r": (0.05, 0.4), "elv_angle_r": (-0.2, 0.3)}
    return [
        View(name="AP", title="Shoulder, AP", frame=body_frame(0), target=joint, yaw=(-12, 30),
             joints={**hang, "shoulder_rot_r": (-0.3, 0.3)}, **common),
        View(name="external rotation", title="Shoulder, external rotation", frame=body_frame(0),
             target=joint, yaw=(-5, 35), joints={**hang, "shoulder_rot_r": (-1.2, -0.6)}, **common),
        View(name="internal rotation", title="Shoulder, internal rotation", frame=body_frame(0),
             target=joint, yaw=(-10, 20), joints={**hang, "shoulder_rot_r": (0.7, 1.2)}, **common),
        View(name="Y", title="Shoulder, Y view", frame=body_frame(-50), yaw=(-8, 6),
             target=between(("humerus", 0.12), ("scapula", 0.45)), joints={
                 **hang, "shoulder_rot_r": (-0.2, 0.4)}, **{**common, "extent": (185, 235),
                 "aspects": (0.8, 1.0)}),
    ]  # fmt: skip


def other_views() -> list[View]:
    """Parts that the cascade does not read."""
    arm: dict[str, Any] = {"bones": ARM, "cones": arm_cones}
    leg: dict[str, Any] = {"bones": LEG, "cones": leg_cones}
    head: dict[str, Any] = {
        "bones": HEAD,
        "cones": head_cones,
        "part": "skull",
        "extent": (260, 310),
    }
    straight = {"elbow_flexion_r": (0.0, 0.3), "pro_sup_r": (-1.5, -1.0)}
    bent = {"elbow_flexion_r": (1.0, 1.7), "pro_sup_r": (-0.3, 0.3)}
    knee = between(("femur", 0.985), ("tibia", 0.02))
    shaft, blade = at("radius", 0.52), at("humerus", 0.55)
    foot = at("foot", 0.85)
    return [
        View(part="forearm", name="AP", title="Forearm, AP", frame=forearm_frame(0), target=shaft,
             extent=(290, 340), joints=straight, turns=(0, 0, 2), aspects=(0.5, 0.6, 0.8), **arm),
        View(part="forearm", name="lateral", title="Forearm, lateral", frame=forearm_frame(90),
             target=shaft, extent=(290, 340), joints=bent, turns=(0, 1, 2), aspects=(0.6, 0.8, 1.0),
             **arm),
        View(part="humerus", name="AP", title="Humerus, AP", frame=body_frame(0), target=blade,
             extent=(330, 400), joints={"shoulder_elv_r": (0.2, 0.6)},
             bones=(*TRUNK, "radius", "ulna"), cones=body_and_arm, cavities=lung_cones,
             aspects=(0.5, 0.67, 0.8)),
        View(part="knee", name="AP", title="Knee, AP", frame=body_frame(0), target=knee,
             extent=(220, 320), joints={"knee_angle_r": (0.0, 0.1)}, **leg),
        View(part="knee", name="lateral", title="Knee, lateral", frame=body_frame(90), target=knee,
             extent=(220, 320), joints={"knee_angle_r": (0.2, 0.9)}, roll=(-25, 25), **leg),
        View(part="foot", name="DP", title="Foot, DP", frame=foot_frame, target=foot,
             extent=(270, 320), tilt=(-14, 4), aspects=(0.5, 0.67, 0.8),
             bones=("talus", "foot", "bofoot"), cones=forefoot_cones),
        View(part="foot", name="lateral", title="Foot, lateral", frame=body_frame(90),
             target=at("foot", 0.6), extent=(240, 300), aspects=(1.2, 1.0), **leg),
        View(name="lateral", title="Skull, lateral", frame=body_frame(90),
             target=at("skull", 0.5), **head),
        View(name="AP", title="Skull, AP", frame=body_frame(0), target=at("skull", 0.5), **head),
    ]  # fmt: skip


def body_and_arm(pose: Pose) -> Points:
    """Trunk and upper arm together; the rest of the arm lies outside the picture."""
    return np.concatenate(
        [trunk_cones(pose), np.stack(upper_arm_cones(pose) + forearm_cones(pose))]
    )


def all_views() -> list[View]:
    """Every view; the supported parts first."""
    return elbow_views() + hand_views() + shoulder_views() + other_views()
