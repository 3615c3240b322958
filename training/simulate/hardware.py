"""Metal and casts. They lie on broken and on sound bones alike and say nothing about either."""

from __future__ import annotations

import cv2
import numpy as np

from training.simulate.anatomy import Bone, Faces, Points, Pose
from training.simulate.physics import Camera, Image
from training.simulate.soft import forearm_cones, palm_cones, unit, upper_arm_cones, wrist_cones

# Bones that carry plates, with the span along them.
PLATES = {
    "elbow": (("humerus", (0.62, 0.93)), ("ulna", (0.04, 0.3)), ("radius", (0.1, 0.36))),
    "hand": (("radius", (0.72, 0.965)), ("5mc", (0.2, 0.8)), ("4mc", (0.2, 0.8)),
             ("3mc", (0.2, 0.8)), ("2proxph", (0.15, 0.85)), ("ulna", (0.7, 0.95))),
    "shoulder": (("humerus", (0.05, 0.36)), ("clavicle", (0.3, 0.85))),
}  # fmt: skip


def tube(path: Points, radii: Points, sides: int = 10) -> tuple[Points, Faces]:
    """A closed tube along a path (Nx3) with a radius at each point (N,)."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    helper = np.eye(3)[int(np.abs(along[0]).argmin())]
    u = np.cross(along, helper)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(along, u)
    angle = np.arange(sides) * 2.0 * np.pi / sides
    ring = np.cos(angle)[:, None, None] * u + np.sin(angle)[:, None, None] * v
    wall = path[:, None] + ring.transpose(1, 0, 2) * radii[:, None, None]
    return swept(wall)


def swept(wall: Points) -> tuple[Points, Faces]:
    """A closed surface from rings of points (NxSx3), capped at both ends."""
    count, sides = wall.shape[:2]
    i, j = np.meshgrid(np.arange(count - 1), np.arange(sides), indexing="ij")
    a, b = i * sides + j, i * sides + (j + 1) % sides
    c, d = a + sides, b + sides
    faces = [np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)]
    points = np.concatenate([wall.reshape(-1, 3), wall[0].mean(0)[None], wall[-1].mean(0)[None]])
    ring = np.arange(sides)
    following = (ring + 1) % sides
    first, last = count * sides, count * sides + 1
    base = (count - 1) * sides
    faces.append(np.stack([following, ring, np.full(sides, first)], -1))
    faces.append(np.stack([base + ring, base + following, np.full(sides, last)], -1))
    joined = np.concatenate(faces)
    x, y, z = (points[joined[:, k]] for k in range(3))
    if np.einsum("ij,ij->", x, np.cross(y, z)) < 0:
        joined = joined[:, ::-1]
    return points, np.ascontiguousarray(joined)


def surface_line(
    bone: Bone, span: tuple[float, float], angle: float, count: int
) -> tuple[Points, Points]:
    """Points (Nx3, bone frame) on the bone's surface along its axis, and the outward normal."""
    local = (bone.outer - bone.origin) @ bone.axes.T
    direction = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-direction[1], direction[0]])
    levels = local[:, 0].min() + np.linspace(*span, count) * np.ptp(local[:, 0])
    line = []
    for level in levels:
        near = np.abs(local[:, 0] - level) < max(2.0, 0.02 * bone.length)
        ring = local[near, 1:]
        centre = 0.5 * (ring.min(axis=0) + ring.max(axis=0))
        narrow = np.abs((ring - centre) @ side) < 0.4 * np.ptp(ring @ side) + 0.5
        out = ((ring - centre) @ direction)[narrow].max() if narrow.any() else 2.0
        line.append([level, *(centre + direction * out)])
    path = np.array(line)
    for _ in range(4):
        path[1:-1] = 0.5 * path[1:-1] + 0.25 * (path[:-2] + path[2:])
    return path @ bone.axes + bone.origin, np.array([0.0, *direction]) @ bone.axes


def bar(
    path: Points, side: Points, out: Points, left: Points | float, right: Points | float,
    thick: float,
) -> tuple[Points, Faces]:  # fmt: skip
    """A flat bar along a path (Nx3), from ``left`` to ``right`` mm beside it."""
    corners = ((left, 0.2), (left, thick), (right, thick), (right, 0.2))
    return swept(np.stack([path + side * across + out * up for across, up in corners], axis=1))


def plate(
    pose: Pose, name: str, span: tuple[float, float], rng: np.random.Generator
) -> list[tuple[Points, Faces]]:
    """A plate with its screws on one bone (world, closed surfaces)."""
    bone, place = pose.bones[name], pose.places[name]
    size = np.clip(bone.length / 250.0, 0.28, 1.0)
    path, normal = surface_line(bone, span, rng.uniform(0.0, 2.0 * np.pi), 40)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = normal - along * (along @ normal)[:, None]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    side = np.cross(along, out)
    holes = max(4, round(float(np.ptp(span)) * bone.length / float(13.0 * size + 1.0)))
    wave = np.cos(np.linspace(0.0, 2.0 * np.pi * holes, 40))[:, None]
    # Two rails and the bridges between them leave the holes open.
    outer, thick = (5.0 + 0.35 * wave) * size, 3.0 * size
    solids = [bar(path, side, out, s * 2.6 * size, s * outer, thick) for s in (-1.0, 1.0)]
    for k in range(holes + 1):
        piece = slice(max(0, int(k / holes * 39) - 1), min(40, int(k / holes * 39) + 2))
        solids.append(bar(path[piece], side[piece], out[piece], -2.6 * size, 2.6 * size, thick))
    for k in range(holes):
        at = int((k + 0.5) / holes * 39)
        if rng.random() < 0.12:
            continue
        centre = bone.origin + ((path[at] - bone.origin) @ bone.axes[0]) * bone.axes[0]
        depth = 2.0 * max(float((path[at] - centre) @ out[at]), 4.0 * size) + 2.0
        tilt = unit(-out[at] + rng.normal(0.0, 0.06, 3))
        solids.append(screw(path[at] + out[at] * (thick + 0.5), tilt, depth, 1.75 * size + 0.2))
    return [(place(points), faces) for points, faces in solids]


def screw(head: Points, direction: Points, length: float, radius: float) -> tuple[Points, Faces]:
    """A threaded screw with its head at ``head``."""
    s = np.linspace(0.0, 1.0, int(max(24, length * 3)))
    radii = radius * (1.0 + 0.16 * np.cos(2.0 * np.pi * s * length / 1.6))
    radii = np.where(s * length < 2.2, 1.9 * radius, radii)
    radii[s > 0.97] *= 0.5
    return tube(head + s[:, None] * direction * length, radii)


def wires(
    pose: Pose, name: str, span: tuple[float, float], rng: np.random.Generator
) -> list[tuple[Points, Faces]]:
    """Two or three crossed wires through one bone (world)."""
    bone, place = pose.bones[name], pose.places[name]
    size = np.clip(bone.length / 250.0, 0.3, 1.0)
    solids = []
    for k in range(int(rng.integers(2, 4))):
        middle = bone.along(float(rng.uniform(*span)))
        angle = k * np.pi / 2.0 + rng.uniform(-0.4, 0.4)
        across = np.cos(angle) * bone.axes[1] + np.sin(angle) * bone.axes[2]
        direction = unit(bone.axes[0] + rng.uniform(0.25, 0.6) * across)
        reach = 24.0 * size + 6.0
        path = middle + np.linspace(-reach, reach + 9.0, 12)[:, None] * direction
        points, faces = tube(path, np.full(12, 0.85 * size + 0.15), 8)
        solids.append((place(points), faces))
    return solids


def anchors(pose: Pose, rng: np.random.Generator) -> list[tuple[Points, Faces]]:
    """Suture anchors in the head of the humerus (world)."""
    solids = []
    for _ in range(int(rng.integers(2, 5))):
        head = pose.point("humerus", float(rng.uniform(0.03, 0.09)))
        direction = unit(rng.normal(0.0, 1.0, 3))
        solids.append(screw(head + direction * 18.0, -direction, 11.0, 2.0))
    return solids


def draw_metal(
    part: str, pose: Pose, near: str | None, rng: np.random.Generator
) -> tuple[str, list[tuple[Points, Faces]]]:
    """A kind of metal and its surfaces; mostly not on the bone ``near``, so as not to hide it."""
    choices = [c for c in PLATES[part] if c[0] != near] or list(PLATES[part])
    name, span = choices[int(rng.integers(len(choices)))]
    kind = rng.random()
    if part == "shoulder" and kind < 0.25:
        return "suture anchors", anchors(pose, rng)
    if kind < 0.4:
        return "wires", wires(pose, name, span, rng)
    return "plate and screws", plate(pose, name, span, rng)


def cast_cones(part: str, pose: Pose, inflate: float) -> Points:
    """The limb under a cast, grown by ``inflate`` mm (Kx11)."""
    rows = forearm_cones(pose)
    rows += upper_arm_cones(pose) if part == "elbow" else wrist_cones(pose) + palm_cones(pose)
    cones = np.stack(rows)
    cones[:, 6:8] += inflate
    cones[:, 8] = 0.0
    return cones


def cast_window(part: str, pose: Pose, camera: Camera, rng: np.random.Generator) -> Image:
    """Where along the limb the cast lies (HxW in [0, 1], cut off roughly at its ends)."""
    if part == "elbow":
        ends = [pose.point("radius", 0.8), pose.point("humerus", 0.45)]
    else:
        ends = [pose.point("3mc", 0.85), pose.point("radius", 0.3)]
    tips = camera.project(np.stack(ends))[:, :2]
    inwards = camera.project(
        np.stack(
            [
                pose.point("radius", 0.5),
                pose.point(
                    "humerus" if part == "elbow" else "radius", 0.75 if part == "elbow" else 0.5
                ),
            ]
        )
    )[:, :2]
    y, x = np.mgrid[: camera.size[0], : camera.size[1]].astype(np.float32)
    window = np.ones(camera.size, np.float32)
    for tip, inner in zip(tips, inwards, strict=True):
        direction = (inner - tip) / max(float(np.linalg.norm(inner - tip)), 1e-6)
        across = (x - tip[0]) * -direction[1] + (y - tip[1]) * direction[0]
        wave = 2.5 * np.sin(across * 0.07 + rng.uniform(0.0, 6.0)) + 1.2 * np.sin(across * 0.23)
        depth = (x - tip[0]) * direction[0] + (y - tip[1]) * direction[1] + wave
        window *= np.clip(0.5 + depth / 3.0, 0.0, 1.0)
    return window


def weave(size: tuple[int, int], rng: np.random.Generator) -> Image:
    """Uneven thickness of bandage layers (HxW, about 1)."""
    coarse = rng.normal(1.0, 0.13, (size[0] // 40 + 3, size[1] // 40 + 3)).astype(np.float32)
    fine = rng.normal(0.0, 0.06, (size[0] // 5 + 2, size[1] // 5 + 2)).astype(np.float32)
    shape = (size[1], size[0])
    total = cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC)
    total = total + cv2.resize(fine, shape, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(total, 0.6, 1.5), np.float32)
