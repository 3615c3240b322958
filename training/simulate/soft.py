"""The body's outline: round cones around the bones that melt into each other.

Radii in mm for an adult of medium build. A cone is a row of 9 numbers: start, end, the radius at
each, and the thickness of the fat under the skin.
"""

from __future__ import annotations

import numpy as np

from .anatomy import Points, Pose

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


def cone(start: Points, end: Points, radii: tuple[float, float], fat: float) -> Points:
    """One row of 9 numbers."""
    return np.concatenate([start, end, radii, [fat]])


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


def forearm_cones(pose: Pose) -> list[Points]:
    """From the wrist to the elbow: bones, flexors and extensors."""
    rows = []
    shares = (1.0, 0.8, 0.55, 0.3, 0.05)
    radii = (16.5, 19.5, 27.0, 33.0, 31.0)
    fats = (2.5, 3.0, 4.0, 5.0, 5.0)
    for bone, weight in (("radius", 1.0), ("ulna", 0.9)):
        for k in range(4):
            start, end = pose.point(bone, shares[k]), pose.point(bone, shares[k + 1])
            pair = (radii[k] * weight, radii[k + 1] * weight)
            rows.append(cone(start, end, pair, fats[k]))
    wrist = (pose.point("radius", 1.0), pose.point("ulna", 0.98))
    carpus = (pose.point("trapezium", 0.5), pose.point("hamate", 0.5))
    rows += [cone(a, b, (16.0, 14.0), 2.2) for a, b in zip(wrist, carpus, strict=True)]
    return rows


def upper_arm_cones(pose: Pose) -> list[Points]:
    """From the elbow to the shoulder: biceps in front, triceps behind, the epicondyles."""
    front = unit(np.cross(pose.hinges["elbow_flexion_r"], pose.point("humerus", 0.0) - pose.point("humerus", 1.0)))
    points = [pose.point("humerus", s) for s in (0.04, 0.2, 0.45, 0.7, 0.9)]
    radii = (46.0, 44.0, 42.0, 36.0, 31.0)
    fats = (9.0, 8.0, 7.0, 6.0, 5.0)
    rows = [
        cone(points[k], points[k + 1], (radii[k], radii[k + 1]), fats[k]) for k in range(4)
    ]
    side = unit(pose.hinges["elbow_flexion_r"])
    end = pose.point("humerus", 0.965)
    rows.append(cone(end - 18.0 * side, end + 18.0 * side, (23.0, 23.0), 4.0))
    rows.append(cone(points[1] + 8.0 * front, points[3] + 8.0 * front, (38.0, 30.0), 7.0))
    olecranon = pose.point("ulna", 0.02)
    rows.append(cone(olecranon, pose.point("ulna", 0.2), (15.0, 20.0), 3.0))
    rows.append(cone(end, pose.point("radius", 0.08), (30.0, 31.0), 5.0))
    return rows


def arm_cones(pose: Pose) -> Points:
    """The whole right arm (Kx9)."""
    return np.stack(
        finger_cones(pose) + thumb_cones(pose) + palm_cones(pose)
        + forearm_cones(pose) + upper_arm_cones(pose)
    )  # fmt: skip


def trunk_cones(pose: Pose) -> Points:
    """Chest, neck and both shoulders of a standing body, as far as a shoulder view shows them."""
    spine, neck = pose.point("thoracic6", 0.5), pose.point("cervical", 0.5)
    middle = 0.5 * (pose.bones["ribs"].outer.min(axis=0) + pose.bones["ribs"].outer.max(axis=0))
    chest = pose.places["ribs"](middle[None])[0]
    head, acromion = pose.point("humerus", 0.05), pose.point("clavicle", 0.98)
    up, left = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
    rows = []
    for sign in (-1.0, 1.0):
        side = chest + sign * 62.0 * left
        rows.append(cone(side - 190.0 * up, side + 20.0 * up, (108.0, 92.0), 14.0))
        rows.append(cone(side + 20.0 * up, side + 95.0 * up, (92.0, 58.0), 12.0))
        mirror = np.array([sign, 1.0, 1.0])
        centre = np.array([spine[0], 0.0, 0.0])
        shoulder = (acromion - centre) * mirror * np.array([-1.0, 1.0, 1.0]) + centre
        root = neck + np.array([sign * 25.0, 12.0, -55.0])
        rows.append(cone(root, shoulder + np.array([0.0, 8.0, -22.0]), (42.0, 34.0), 8.0))
    rows.append(cone(neck - 60.0 * up, neck + 130.0 * up, (60.0, 56.0), 5.0))
    rows.append(cone(head, pose.point("humerus", 0.3), (50.0, 46.0), 9.0))
    rows.append(cone(acromion - 18.0 * up, head, (34.0, 48.0), 8.0))
    # Pectoral muscle in front and latissimus behind make the folds of the armpit.
    breast = chest + np.array([-60.0, -70.0, 40.0])
    rows.append(cone(breast, pose.point("humerus", 0.2), (46.0, 30.0), 10.0))
    blade = pose.point("scapula", 0.6)
    rows.append(cone(blade + np.array([0.0, 15.0, -30.0]), pose.point("humerus", 0.15),
                     (44.0, 34.0), 10.0))  # fmt: skip
    return np.stack(rows)


def lung_cones(pose: Pose) -> Points:
    """Air in both halves of the chest (Kx9)."""
    ribs = pose.bones["ribs"].outer
    chest = pose.places["ribs"](0.5 * (ribs.min(axis=0) + ribs.max(axis=0))[None])[0]
    up = np.array([0.0, 0.0, 1.0])
    rows = []
    for sign in (-1.0, 1.0):
        low = chest + np.array([sign * 66.0, 6.0, -60.0])
        top = chest + np.array([sign * 48.0, 22.0, 96.0])
        rows.append(cone(low - 40.0 * up, low + 40.0 * up, (62.0, 60.0), 0.0))
        rows.append(cone(low + 40.0 * up, top, (60.0, 34.0), 0.0))
        rows.append(cone(low + np.array([0.0, 30.0, -20.0]), low + np.array([0.0, 25.0, 60.0]),
                         (52.0, 50.0), 0.0))  # fmt: skip
    return np.stack(rows)


def leg_cones(pose: Pose) -> Points:
    """The right leg from mid-thigh to the toes (Kx9)."""
    back = np.array([0.0, 1.0, 0.0])
    thigh = [pose.point("femur", s) for s in (0.35, 0.6, 0.85, 0.97)]
    shin = [pose.point("tibia", s) for s in (0.03, 0.25, 0.5, 0.8, 0.97)]
    behind = unit(np.cross(unit(shin[0] - shin[-1]), np.array([-1.0, 0.0, 0.0])))
    behind = behind if behind @ back > -0.2 else -behind
    rows = [
        cone(thigh[k] + 8.0 * back, thigh[k + 1] + 8.0 * back, r, 10.0 - 2.0 * k)
        for k, r in enumerate(((82.0, 72.0), (72.0, 60.0), (60.0, 54.0)))
    ]
    calf = (0.0, 14.0, 16.0, 6.0, 0.0)
    radii = (53.0, 52.0, 48.0, 34.0, 32.0)
    for k in range(4):
        start, end = shin[k] + calf[k] * behind, shin[k + 1] + calf[k + 1] * behind
        rows.append(cone(start, end, (radii[k], radii[k + 1]), 6.0))
    rows.append(cone(thigh[-1], shin[0], (54.0, 53.0), 6.0))
    kneecap = pose.point("patella", 0.5)
    rows.append(cone(kneecap, kneecap + shin[0] - thigh[-1], (26.0, 24.0), 4.0))
    return np.stack(rows + foot_cones(pose))


def foot_cones(pose: Pose) -> list[Points]:
    """Heel, sole, arch and five toes."""
    foot, toes = pose.bones["foot"], pose.bones["bofoot"]
    place, ahead = pose.places["foot"], pose.places["bofoot"]
    low, high = foot.outer.min(axis=0), foot.outer.max(axis=0)

    def at(x: float, y: float, z: float) -> Points:
        return place((low + (high - low) * np.array([x, y, z]))[None])[0]

    rows = [
        cone(at(0.1, 0.45, 0.35), at(0.25, 0.5, 0.4), (30.0, 30.0), 9.0),
        cone(at(0.25, 0.75, 0.4), pose.point("tibia", 0.97), (33.0, 34.0), 5.0),
        cone(at(0.15, 0.4, 0.4), at(0.9, 0.15, 0.75), (26.0, 18.0), 7.0),
        cone(at(0.3, 0.7, 0.35), at(0.95, 0.35, 0.15), (30.0, 19.0), 6.0),
        cone(at(0.3, 0.7, 0.4), at(0.95, 0.3, 0.45), (31.0, 18.0), 5.0),
    ]
    tip_low, tip_high = toes.outer.min(axis=0), toes.outer.max(axis=0)
    for k, (z, reach) in enumerate(((0.16, 0.98), (0.38, 0.97), (0.57, 0.9), (0.75, 0.8), (0.92, 0.68))):
        size = 14.0 if k == 0 else 10.5 - 0.5 * k
        tip = tip_low + (tip_high - tip_low) * np.array([reach, 0.4, z])
        base = at(0.88, 0.25, z)
        rows.append(cone(base, ahead(tip[None])[0], (size + 4.0, size - 1.5), 3.5))
    return rows


def head_cones(pose: Pose) -> Points:
    """Head, face and neck (Kx9)."""
    skull, place = pose.bones["skull"], pose.places["skull"]
    low, high = skull.outer.min(axis=0), skull.outer.max(axis=0)
    middle = place((0.5 * (low + high))[None])[0]
    jaw = pose.places["jaw"](pose.bones["jaw"].outer.mean(axis=0)[None])[0]
    neck, up = pose.point("cervical", 0.5), np.array([0.0, 0.0, 1.0])
    ahead = np.array([0.0, -1.0, 0.0])
    return np.stack([
        cone(middle + 10.0 * ahead + 12.0 * up, middle - 24.0 * ahead + 8.0 * up, (72.0, 74.0), 4.0),
        cone(middle + 38.0 * ahead - 25.0 * up, jaw + 12.0 * ahead, (48.0, 44.0), 4.0),
        cone(jaw, jaw + 26.0 * ahead - 12.0 * up, (44.0, 26.0), 4.0),
        cone(neck + 40.0 * up, neck - 120.0 * up, (54.0, 62.0), 5.0),
        cone(middle + 80.0 * ahead - 34.0 * up, middle + 92.0 * ahead - 40.0 * up, (11.0, 9.0), 1.0),
    ])  # fmt: skip
