"""The body's outline: round cones around the bones that melt into each other.

Radii in mm for an adult of medium build. A cone is a row of 11 numbers: start, end, the radius at
each, the thickness of the fat under the skin, and whether a chain goes on at either end.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from training.simulate.anatomy import Points, Pose

# Radius at the base and at the head of each finger segment.
FINGER_RADII = {
    "mc": (10.5, 10.0), "proxph": (9.6, 8.6), "midph": (8.4, 7.4), "distph": (7.2, 6.0)
}  # fmt: skip
FINGER_SCALE = {"2": 1.0, "3": 1.02, "4": 0.95, "5": 0.85}


def unit(vector: Points) -> Points:
    """The vector (3,) at length 1."""
    return vector / np.linalg.norm(vector)


def palmar(pose: Pose) -> Points:
    """Direction (3,) out of the palm of the right hand."""
    distal = pose.point("3mc", 1.0) - pose.point("3mc", 0.0)
    radial = pose.point("2mc", 0.5) - pose.point("5mc", 0.5)
    return unit(np.cross(distal, radial))


def cone(
    start: Points,
    end: Points,
    radii: tuple[float, float],
    fat: float,
    goes_on: tuple[bool, bool] = (False, False),
) -> Points:
    """One row of 11 numbers; ``goes_on``: whether a chain continues at the start and the end."""
    return np.concatenate([start, end, radii, [fat], goes_on])


def finger_cones(pose: Pose) -> list[Points]:
    """Fingers 2 to 5, from the carpus to a pulp beyond the last bone."""
    rows = []
    palm = palmar(pose)
    for digit, scale in FINGER_SCALE.items():
        for segment, (base, head) in FINGER_RADII.items():
            start = pose.point(f"{digit}{segment}", 0.0)
            end = pose.point(f"{digit}{segment}", 1.0)
            shift = palm * (3.5 if segment == "mc" else 0.8)
            if segment == "distph":
                end = end + unit(end - start) * 0.5
            radii = (base * scale, head * scale)
            rows.append(cone(start + shift, end + shift, radii, 1.6))
    return rows


def thumb_cones(pose: Pose) -> list[Points]:
    """The thumb and the ball of the thumb."""
    palm = palmar(pose)
    base, knuckle = pose.point("mc1", 0.0), pose.point("mc1", 1.0)
    joint, tip = pose.point("thumbprox", 1.0), pose.point("thumbdist", 1.0)
    ball = 0.5 * (pose.point("3mc", 0.45) + pose.point("mc1", 0.6)) + 5.0 * palm
    return [
        cone(base, knuckle, (13.0, 11.5), 1.8),
        cone(knuckle, joint, (11.0, 9.8), 1.6),
        cone(joint, tip, (9.8, 7.4), 1.6),
        cone(0.5 * (base + pose.point("capitate", 0.5)) + 6.0 * palm, ball, (12.0, 9.0), 2.0),
    ]


def palm_cones(pose: Pose) -> list[Points]:
    """Heel of the hand, little finger's ball and the webs between the metacarpals."""
    palm = palmar(pose)
    wrist = pose.point("lunate", 0.5)
    rows = [
        cone(pose.point("hamate", 0.5) + 4.0 * palm, pose.point("5mc", 0.7) + 6.0 * palm,
             (13.0, 9.0), 2.5),
        cone(wrist + 2.0 * palm, pose.point("3mc", 0.3) + 4.0 * palm, (16.0, 13.0), 2.0),
        cone(pose.point("trapezium", 0.5), pose.point("2mc", 0.5), (12.0, 8.0), 1.8),
    ]  # fmt: skip
    for left, right in (("2", "3"), ("3", "4"), ("4", "5")):
        middle = [
            0.5 * (pose.point(f"{left}mc", s) + pose.point(f"{right}mc", s)) for s in (0.2, 0.97)
        ]
        rows.append(cone(middle[0] + 3.0 * palm, middle[1] + 3.0 * palm, (11.0, 8.5), 1.8))
    return rows


def chain(points: Points, radii: Points, fats: Points, steps: int = 8) -> list[Points]:
    """Cones along a line (Nx3) whose radius changes smoothly through the N values given."""
    knots = np.linspace(0.0, 1.0, len(points))
    fine = np.linspace(0.0, 1.0, steps + 1)
    line, width, fat = (PchipInterpolator(knots, values)(fine) for values in (points, radii, fats))
    return [
        cone(line[k], line[k + 1], (width[k], width[k + 1]), fat[k], (k > 0, k < steps - 1))
        for k in range(steps)
    ]


def forearm_cones(pose: Pose) -> list[Points]:
    """From the wrist to the elbow: bones, flexors and extensors."""
    shares = (1.0, 0.9, 0.75, 0.5, 0.25, 0.05)
    fats = np.array((2.5, 2.5, 3.0, 4.0, 5.0, 5.0))
    radii = np.array((17.0, 17.5, 21.0, 28.0, 32.0, 31.0))
    rows = []
    for bone, weight in (("radius", 1.0), ("ulna", 0.94)):
        line = np.stack([pose.point(bone, s) for s in shares])
        rows += chain(line, radii * weight, fats)
    return rows


def wrist_cones(pose: Pose) -> list[Points]:
    """From the ends of both forearm bones to the palm."""
    rows = []
    wrist = (pose.point("radius", 0.99), pose.point("ulna", 0.98))
    carpus = (pose.point("trapezium", 0.5), pose.point("hamate", 0.5))
    palm = (pose.point("2mc", 0.3), pose.point("5mc", 0.3))
    for a, b, c in zip(wrist, carpus, palm, strict=True):
        rows += [cone(a, b, (16.5, 14.5), 2.2), cone(b, c, (14.5, 12.5), 2.2)]
    return rows


def upper_arm_cones(pose: Pose) -> list[Points]:
    """From the elbow to the shoulder: biceps in front, triceps behind, the epicondyles."""
    up = pose.point("humerus", 0.0) - pose.point("humerus", 1.0)
    side = unit(pose.hinges["elbow_flexion_r"])
    front = unit(np.cross(side, up))
    line = np.stack([pose.point("humerus", s) for s in (0.04, 0.2, 0.45, 0.7, 0.88, 0.97)])
    radii = np.array((46.0, 46.0, 43.0, 39.0, 33.0, 28.0))
    rows = chain(line, radii, np.array((9.0, 8.0, 7.0, 6.0, 5.0, 4.0)))
    end = pose.point("humerus", 0.955)
    rows.append(cone(end - 13.0 * side, end + 13.0 * side, (22.0, 22.0), 4.0))
    rows.append(cone(line[1] + 7.0 * front, line[3] + 8.0 * front, (40.0, 32.0), 7.0))
    olecranon = pose.point("ulna", 0.03)
    rows.append(cone(olecranon, pose.point("ulna", 0.2), (14.0, 22.0), 3.0))
    rows.append(cone(end + 4.0 * front, pose.point("radius", 0.1), (31.0, 32.0), 5.0))
    return rows


def arm_cones(pose: Pose) -> Points:
    """The whole right arm (Kx11)."""
    return np.stack(
        finger_cones(pose) + thumb_cones(pose) + palm_cones(pose)
        + wrist_cones(pose) + forearm_cones(pose) + upper_arm_cones(pose)
    )  # fmt: skip


def chest_centre(pose: Pose) -> Points:
    """The middle (3,) of the rib cage."""
    ribs = pose.bones["ribs"].outer
    return np.asarray(pose.places["ribs"](0.5 * (ribs.min(axis=0) + ribs.max(axis=0))[None])[0])


def trunk_cones(pose: Pose) -> Points:
    """Chest, neck and both shoulders of a standing body, as far as a shoulder view shows them."""
    neck, chest = pose.point("cervical", 0.5), chest_centre(pose)
    head, acromion = pose.point("humerus", 0.05), pose.point("clavicle", 0.98)
    up = np.array([0.0, 0.0, 1.0])
    rows = []
    for sign in (-1.0, 1.0):
        side = chest + np.array([sign * 58.0, 0.0, 0.0])
        rows += chain(
            side + np.array([[0, 0, -230], [0, 0, -40], [-sign * 4, 2, 50], [-sign * 20, 12, 110]]),
            np.array((106.0, 105.0, 88.0, 50.0)), np.array((14.0, 12.0, 10.0, 8.0)), 5,
        )  # fmt: skip
        # Trapezius: hollow between the neck and the top of the shoulder.
        shoulder = acromion if sign < 0 else acromion + (neck - acromion) * np.array([2.0, 0, 0])
        root = neck + np.array([sign * 30.0, 14.0, 8.0])
        low = root + (shoulder - root) * 0.45 + np.array([0.0, 4.0, -38.0])
        line = np.stack([root, low, shoulder + np.array([0.0, 4.0, -24.0])])
        rows += chain(line, np.array((38.0, 40.0, 34.0)), np.array((7.0, 7.0, 7.0)), 4)
    rows.append(cone(neck - 70.0 * up, neck + 140.0 * up, (58.0, 55.0), 5.0))
    arm = np.stack([pose.point("humerus", s) for s in (0.06, 0.2, 0.4, 0.65, 0.95)])
    rows += chain(
        arm, np.array((44.0, 48.0, 46.0, 42.0, 34.0)), np.array((8.0, 8.0, 8.0, 7.0, 5.0)), 5
    )
    rows.append(cone(acromion - 16.0 * up, head, (27.0, 42.0), 7.0))
    # Pectoral muscle in front and latissimus behind make the folds of the armpit.
    breast = chest + np.array([-70.0, -62.0, 30.0])
    rows.append(cone(breast, pose.point("humerus", 0.16), (12.0, 28.0), 5.0))
    joint, blade = pose.point("scapula", 0.25), pose.point("scapula", 0.8)
    rows.append(cone(joint, chest + np.array([-80.0, 15.0, 25.0]), (28.0, 8.0), 3.0))
    rows.append(cone(head, joint + 0.8 * (blade - joint), (36.0, 8.0), 3.0))
    blade = chest + np.array([-85.0, 50.0, 0.0])
    rows.append(cone(blade, pose.point("humerus", 0.13), (12.0, 30.0), 5.0))
    return np.stack(rows)


def lung_cones(pose: Pose) -> Points:
    """Air in both halves of the chest (Kx11)."""
    chest = chest_centre(pose)
    up = np.array([0.0, 0.0, 1.0])
    rows = []
    for sign in (-1.0, 1.0):
        for depth, radius in ((-26.0, 56.0), (0.0, 62.0), (32.0, 58.0)):
            low = chest + np.array([sign * 68.0, depth, -70.0])
            top = chest + np.array([sign * 50.0, 10.0 + 0.3 * depth, 92.0])
            rows.append(cone(low - 170.0 * up, low + 60.0 * up, (radius, radius), 0.0))
            rows.append(cone(low + 60.0 * up, top, (radius, 36.0), 0.0))
    return np.stack(rows)


def leg_cones(pose: Pose) -> Points:
    """The right leg from mid-thigh to the toes (Kx11)."""
    back = np.array([0.0, 1.0, 0.0])
    thigh = [pose.point("femur", s) for s in (0.35, 0.6, 0.85, 0.97)]
    shin = [pose.point("tibia", s) for s in (0.03, 0.25, 0.5, 0.8, 0.97)]
    behind = unit(np.cross(unit(shin[0] - shin[-1]), np.array([-1.0, 0.0, 0.0])))
    behind = behind if behind @ back > -0.2 else -behind
    rows = chain(
        np.stack(thigh) + 8.0 * back, np.array((82.0, 72.0, 60.0, 54.0)),
        np.array((10.0, 9.0, 7.0, 6.0)), 6,
    )  # fmt: skip
    depth = np.array((0.0, 14.0, 16.0, 6.0, 0.0))[:, None] * behind
    rows += chain(np.stack(shin) + depth, np.array((53.0, 53.0, 48.0, 34.0, 32.0)), np.full(5, 6.0))
    rows.append(cone(thigh[-1], shin[0], (54.0, 53.0), 6.0))
    kneecap = pose.point("patella", 0.5)
    rows.append(cone(kneecap, kneecap + shin[0] - thigh[-1], (26.0, 24.0), 4.0))
    return np.stack(rows + foot_cones(pose))


def foot_cones(pose: Pose) -> list[Points]:
    """Heel, sole, arch and five toes of a foot that stands with its sole down."""
    hind = pose.places["foot"](pose.bones["foot"].outer)
    fore = pose.places["bofoot"](pose.bones["bofoot"].outer)
    low, high = hind.min(axis=0), hind.max(axis=0)
    ankle = pose.point("talus", 0.5) + np.array([0.0, 4.0, 22.0])

    def at(lateral: float, back: float, height: float) -> Points:
        return np.asarray(low + (high - low) * np.array([1.0 - lateral, back, height]))

    rows = [
        cone(at(0.5, 0.9, 0.42), at(0.5, 0.72, 0.3), (24.0, 27.0), 8.0),
        cone(at(0.5, 0.84, 0.6), ankle, (24.0, 33.0), 5.0),
        cone(at(0.45, 0.62, 0.75), ankle, (32.0, 33.0), 5.0),
        cone(at(0.68, 0.8, 0.12), at(0.8, 0.06, -0.02), (20.0, 15.0), 7.0),
        cone(at(0.36, 0.62, 0.55), at(0.18, 0.06, 0.16), (27.0, 19.0), 6.0),
        cone(at(0.5, 0.62, 0.5), at(0.5, 0.06, 0.10), (30.0, 17.0), 5.0),
        cone(at(0.5, 0.62, 0.75), at(0.3, 0.25, 0.35), (24.0, 18.0), 4.0),
    ]
    front, back = fore[:, 1].min(), fore[:, 1].max()
    left, right = fore[:, 0].max(), fore[:, 0].min()
    for k, share in enumerate((0.1, 0.36, 0.56, 0.74, 0.91)):
        size = 13.0 if k == 0 else 9.6 - 0.4 * k
        x = left + (right - left) * share
        column = fore[np.abs(fore[:, 0] - x) < 9.0]
        tip = column[column[:, 1].argmin()] if len(column) else fore.mean(axis=0)
        end = np.array([tip[0], max(tip[1] + size - 4.0, front), column[:, 2].mean()])
        rows.append(cone(np.array([x, back + 8.0, end[2] + 2.0]), end, (size + 5.0, size), 3.0))
    return rows


def forefoot_cones(pose: Pose) -> Points:
    """A foot without the leg, which leans out of the beam when the foot is seen from above."""
    return np.stack(foot_cones(pose))


def head_cones(pose: Pose) -> Points:
    """Head, face and neck (Kx11)."""
    skull, place = pose.bones["skull"], pose.places["skull"]
    low, high = skull.outer.min(axis=0), skull.outer.max(axis=0)
    middle = place((0.5 * (low + high))[None])[0]
    jaw = pose.places["jaw"](pose.bones["jaw"].outer.mean(axis=0)[None])[0]
    neck, up = pose.point("cervical", 0.5), np.array([0.0, 0.0, 1.0])
    ahead = np.array([0.0, -1.0, 0.0])
    return np.stack([
        cone(middle + 10.0 * ahead + 12.0 * up, middle - 24.0 * ahead + 8.0 * up,
             (70.0, 71.0), 4.0),
        cone(middle + 38.0 * ahead - 25.0 * up, jaw + 12.0 * ahead, (48.0, 44.0), 4.0),
        cone(jaw, jaw + 26.0 * ahead - 12.0 * up, (44.0, 26.0), 4.0),
        cone(neck + 40.0 * up, neck - 120.0 * up, (54.0, 62.0), 5.0),
        cone(middle + 80.0 * ahead - 34.0 * up, middle + 92.0 * ahead - 40.0 * up,
             (11.0, 9.0), 1.0),
    ])  # fmt: skip
