"""Fractures: rough cuts through a bone whose far fragment is moved, with the truth about them.

A cut is a height h over the bone's own coordinates; what lies at h < 0 stays, what lies at h > 0
moves. Both fragments get a lid where they were cut, so that path lengths stay defined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulate.anatomy import Bone, Faces, Placed, Points, Pose
from training.simulate.physics import Camera

KINDS = ("transverse", "oblique", "spiral", "hairline", "impacted", "avulsion")


OBVIOUS = 0.5
"""Severity from which a fragment has always moved: nobody calls a mere crack obvious."""

# Where the small piece lies at the near end of the bone, the limb beyond stays where it is.
NEAR_END_MOVES = ("olecranon", "calcaneus")


@dataclass(frozen=True)
class Site:
    """A usual place: the bone, the range along it (0 proximal, 1 distal), the usual kinds."""

    name: str
    bone: str
    span: tuple[float, float]
    kinds: tuple[str, ...]
    weight: float = 1.0
    views: tuple[str, ...] = ()


_SHAFT = ("transverse", "oblique", "spiral", "hairline")
_END = ("transverse", "oblique", "impacted", "hairline")

SITES: dict[str, tuple[Site, ...]] = {
    "elbow": (
        Site("supracondylar humerus", "humerus", (0.885, 0.93), _END, 2.0),
        Site("distal humeral shaft", "humerus", (0.76, 0.84), _SHAFT, 1.0),
        Site("humeral condyle", "humerus", (0.955, 0.975), ("avulsion",), 1.2, ("AP", "oblique")),
        Site("radial head or neck", "radius", (0.035, 0.085), _END, 2.0),
        Site("olecranon", "ulna", (0.045, 0.085), ("transverse", "oblique", "hairline"), 1.6,
             ("lateral",)),
        Site("proximal ulnar shaft", "ulna", (0.16, 0.26), _SHAFT, 1.2),
        Site("proximal radial shaft", "radius", (0.15, 0.25), _SHAFT, 0.7),
    ),
    "hand": (
        Site("distal radius", "radius", (0.90, 0.955), _END, 4.0),
        Site("distal ulna", "ulna", (0.90, 0.96), _END, 1.2),
        Site("scaphoid waist", "scaphoid", (0.42, 0.6), ("transverse", "hairline"), 1.5,
             ("PA", "wrist PA", "oblique", "wrist oblique")),
        Site("neck of the fifth metacarpal", "5mc", (0.72, 0.84), _END, 2.0),
        Site("shaft of the fifth metacarpal", "5mc", (0.3, 0.65), _SHAFT, 0.7),
        Site("fourth metacarpal", "4mc", (0.3, 0.8), _SHAFT, 1.0),
        Site("third metacarpal", "3mc", (0.3, 0.8), _SHAFT, 0.7),
        Site("second metacarpal", "2mc", (0.3, 0.8), _SHAFT, 0.7),
        Site("base of the first metacarpal", "mc1", (0.12, 0.25), _END, 1.0),
        *(Site("proximal phalanx", f"{d}proxph", (0.15, 0.85), (*_SHAFT, "avulsion"), 0.9)
          for d in "2345"),
        *(Site("middle phalanx", f"{d}midph", (0.15, 0.85), (*_SHAFT, "avulsion"), 0.6)
          for d in "2345"),
        *(Site("distal phalanx", f"{d}distph", (0.3, 0.8), ("transverse", "oblique", "avulsion"),
               0.4) for d in "2345"),
        Site("thumb", "thumbprox", (0.2, 0.8), (*_SHAFT, "avulsion"), 0.8),
    ),
    "shoulder": (
        Site("surgical neck of the humerus", "humerus", (0.11, 0.19), _END, 3.0),
        Site("greater tuberosity", "humerus", (0.05, 0.08), ("avulsion",), 1.5,
             ("AP", "external rotation", "internal rotation")),
        Site("proximal humeral shaft", "humerus", (0.22, 0.32), _SHAFT, 1.0),
        Site("middle third of the clavicle", "clavicle", (0.42, 0.62), _SHAFT, 2.0,
             ("AP", "external rotation", "internal rotation")),
        Site("lateral third of the clavicle", "clavicle", (0.72, 0.88), _SHAFT, 1.5,
             ("AP", "external rotation", "internal rotation")),
    ),
    # Parts that the cascade does not read as it is released, to try what it takes to add one.
    "forearm": (
        Site("shaft of the radius", "radius", (0.3, 0.75), _SHAFT, 1.5),
        Site("shaft of the ulna", "ulna", (0.3, 0.75), _SHAFT, 1.0),
    ),
    "humerus": (Site("shaft of the humerus", "humerus", (0.3, 0.7), _SHAFT),),
    "foot": (
        Site("calcaneus", "foot", (0.08, 0.3), ("transverse", "oblique", "hairline"), 2.0,
             ("lateral",)),
        Site("metatarsals", "foot", (0.66, 0.86), ("transverse", "oblique"), 1.0, ("DP",)),
    ),
    "knee": (
        Site("distal femur", "femur", (0.86, 0.93), _END, 1.0),
        Site("proximal tibia", "tibia", (0.05, 0.16), _END, 1.5),
        Site("neck of the fibula", "fibula", (0.05, 0.12), _SHAFT, 0.7),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Solid:
    """A piece of bone in the world: its surface and its marrow space, each closed (mm)."""

    bone: Bone
    place: Placed
    outer: Points
    outer_faces: Faces
    inner: Points
    inner_faces: Faces


@dataclass(frozen=True)
class Cut:
    """The height function of a fracture in a bone's principal coordinates (mm).

    level: along the axis. slope: (2,) tilt across. normal: for an avulsed corner, the direction of
    the piece instead. waves: Mx4, amplitude, two wave numbers, phase: the rough edge. twist: mm of
    rise per turn. gap: half the width of the crack; it closes to 0 across the bone over the
    share ``open_share`` where the crack is not complete.
    """

    level: float
    centre: Points
    slope: Points
    waves: Points
    twist: float
    gap: float
    open_share: float
    open_side: Points
    radius: float
    normal: Points | None = None

    def heights(self, local: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Height over the cut and half the gap (N,) at local points (Nx3)."""
        across = local[:, 1:] - self.centre
        if self.normal is None:
            h = local[:, 0] - self.level - across @ self.slope
        else:
            h = (local - np.concatenate([[self.level], self.centre])) @ self.normal
        for amplitude, ku, kw, phase in self.waves:
            h = h + amplitude * np.sin(ku * local[:, 1] + kw * local[:, 2] + phase)
        if self.twist:
            h = h - self.twist * np.arctan2(across[:, 1], across[:, 0]) / (2.0 * np.pi)
        depth = (across @ self.open_side) / max(self.radius, 1e-6)
        opened = np.clip((depth - (1.0 - 2.0 * self.open_share)) / 0.6, 0.0, 1.0)
        return h, self.gap * opened


@dataclass(frozen=True)
class Fracture:
    """A fracture of one case: what is known about it before it is drawn.

    rotation, shift: how the moved fragment lies, about ``pivot``, in world coordinates.
    """

    site: Site
    kind: str
    cut: Cut
    pivot: Points
    rotation: Points
    shift: Points
    proximal_moves: bool


def rotation_about(axis: Points, angle: float) -> Points:
    """Rotation matrix (3x3) by ``angle`` rad about a unit axis (3,)."""
    cross = np.array([
        [0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]
    ])  # fmt: skip
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


def clip(
    vertices: Points, faces: Faces, height: NDArray[np.float64]
) -> tuple[Points, Faces, Points]:
    """What lies at height > 0, closed with a lid; also the lid's rim as segments (Sx2x3)."""
    keep = height > 0
    count = keep[faces].sum(axis=1)
    whole, mixed = faces[count == 3], faces[(count == 1) | (count == 2)]
    if not len(mixed):
        return vertices, whole, np.zeros((0, 2, 3))
    # Turn each mixed triangle so that its lonely vertex comes first.
    inside = keep[mixed]
    lonely = np.where(inside.sum(axis=1) == 1, inside.argmax(axis=1), (~inside).argmax(axis=1))
    order = (lonely[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(mixed, order, axis=1).T
    edges = np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)])
    edges = np.sort(edges, axis=1)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    low, high = height[unique[:, 0]], height[unique[:, 1]]
    t = (low / np.where(low == high, 1.0, low - high))[:, None]
    fresh = vertices[unique[:, 0]] * (1.0 - t) + vertices[unique[:, 1]] * t
    p, q = index.reshape(2, -1) + len(vertices)
    tip = keep[a]
    parts = [whole, np.stack([a, p, q], 1)[tip]]
    parts += [np.stack([p, b, c], 1)[~tip], np.stack([p, c, q], 1)[~tip]]
    centre = len(vertices) + len(fresh)
    lid = np.where(tip[:, None], np.stack([q, p, np.full_like(p, centre)], 1),
                   np.stack([p, q, np.full_like(p, centre)], 1))  # fmt: skip
    points = np.concatenate([vertices, fresh, fresh.mean(axis=0)[None]])
    return points, np.concatenate([*parts, lid]), points[np.stack([p, q], 1)]


def whole(bone: Bone, place: Placed, outer: Points, inner: Points) -> Solid:
    """An unbroken bone in the world; outer and inner are its surfaces in its own frame."""
    return Solid(bone, place, place(outer), bone.faces, place(inner), bone.faces)


def coordinates(bone: Bone, local: Points) -> Points:
    """Principal coordinates (Nx3 mm) of points in the bone's frame."""
    return (local - bone.origin) @ bone.axes.T


def break_solid(
    solid: Solid, fracture: Fracture, outer: Points, inner: Points
) -> tuple[list[Solid], Points]:
    """Both fragments, and the rims of the crack as segments (Sx2x3, world)."""
    pieces, rims = [], []
    for side in (-1.0, 1.0):
        moves = (side > 0) != fracture.proximal_moves
        place = solid.place
        if moves:
            place = place.then(fracture.rotation, fracture.pivot, fracture.shift)
        surfaces = []
        for surface in (outer, inner):
            h, gap = fracture.cut.heights(coordinates(solid.bone, surface))
            surfaces.append(clip(surface, solid.bone.faces, side * h - gap))
        (shell, shell_faces, rim), (marrow, marrow_faces, _) = surfaces
        pieces.append(
            Solid(solid.bone, place, place(shell), shell_faces, place(marrow), marrow_faces)
        )
        if len(rim):
            wide = fracture.cut.heights(coordinates(solid.bone, rim.mean(axis=1)))[1]
            shown = rim[wide >= 0.3 * fracture.cut.gap]
            rims.append(place(shown.reshape(-1, 3)).reshape(-1, 2, 3))
    return pieces, np.concatenate(rims) if rims else np.zeros((0, 2, 3))


def crack_mask(rims: Points, camera: Camera, grow: float) -> NDArray[np.uint8]:
    """Where the crack lies in the picture (HxW, 0 or 255), widened by ``grow`` pixels."""
    mask = np.zeros(camera.size, np.uint8)
    if not len(rims):
        return mask
    flat = camera.project(rims.reshape(-1, 3))[:, :2].reshape(-1, 2, 2)
    centre = np.broadcast_to(flat.mean(axis=(0, 1)), (len(flat), 1, 2))
    triangles = np.rint(np.concatenate([flat, centre], axis=1) * 16).astype(np.int32)
    for triangle in triangles:
        cv2.fillConvexPoly(mask, triangle, 255, cv2.LINE_8, 4)
    size = 2 * int(np.ceil(grow)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(mask, disc), np.uint8)


def choose_site(part: str, view: str, rng: np.random.Generator) -> Site:
    """A usual place of the part that this view can show."""
    sites = [s for s in SITES[part] if not s.views or view in s.views]
    if view.startswith("wrist"):
        near = ("radius", "ulna", "scaphoid", "mc1", "5mc", "4mc")
        sites = [s for s in sites if s.bone in near]
    weights = np.array([s.weight for s in sites])
    return sites[int(rng.choice(len(sites), p=weights / weights.sum()))]


def rough_waves(radius: float, strength: float, rng: np.random.Generator) -> Points:
    """Waves (Mx4) of a broken edge: ever finer and lower."""
    count = 10
    octave = np.linspace(0.0, 1.0, count)
    number = (1.2 + 14.0 * octave) / max(radius, 2.0) * rng.uniform(0.7, 1.3, count)
    angle = rng.uniform(0.0, 2.0 * np.pi, count)
    amplitude = strength * (1.0 - 0.75 * octave) * rng.uniform(0.4, 1.0, count)
    phase = rng.uniform(0.0, 2.0 * np.pi, count)
    return np.stack([amplitude, number * np.cos(angle), number * np.sin(angle), phase], axis=1)


def ring_at(local: Points, level: float, length: float) -> tuple[Points, float]:
    """Centre (2,) and radius of the bone's cross-section at a level of its axis, mm."""
    near = np.abs(local[:, 0] - level) < max(1.5, 0.02 * length)
    ring = local[near, 1:] if near.sum() > 8 else local[:, 1:]
    centre = 0.5 * (ring.min(axis=0) + ring.max(axis=0))
    return centre, float(np.linalg.norm(ring - centre, axis=1).mean())


def draw_fracture(
    part: str, view: str, pose: Pose, severity: float, rng: np.random.Generator
) -> Fracture:
    """A fracture at a usual place of the part; severity from 0 (barely visible) to 1."""
    site = choose_site(part, view, rng)
    bone = pose.bones[site.bone]
    kind = str(rng.choice([k for k in site.kinds if k != "hairline" or severity < OBVIOUS]))
    if severity < 0.25 and "hairline" in site.kinds:
        kind = "hairline"
    local = coordinates(bone, bone.outer)
    s = local[:, 0]
    level = s.min() + rng.uniform(*site.span) * np.ptp(s)
    centre, radius = ring_at(local, level, bone.length)
    cut = draw_cut(kind, level, centre, radius, severity, rng)
    if kind == "avulsion":
        cut = corner_cut(cut, local, site, rng)
    return place_fragment(Fracture(
        site, kind, cut, np.zeros(3), np.eye(3), np.zeros(3), site.name in NEAR_END_MOVES
    ), pose, radius, severity, rng)  # fmt: skip


def draw_cut(
    kind: str, level: float, centre: Points, radius: float, severity: float,
    rng: np.random.Generator,
) -> Cut:  # fmt: skip
    """The surface of a fracture of one kind through a shaft of the given radius (mm)."""
    tilt = {"transverse": (0.0, 0.25), "hairline": (0.0, 0.9), "impacted": (0.0, 0.3)}
    low, high = tilt.get(kind, (0.5, 1.3))
    direction = rng.uniform(0.0, 2.0 * np.pi)
    slope = rng.uniform(low, high) * np.array([np.cos(direction), np.sin(direction)])
    side = rng.uniform(0.0, 2.0 * np.pi)
    complete = kind != "hairline" or rng.random() < 0.35
    gap = 0.5 * rng.uniform(0.5, 0.9) + 0.6 * severity * min(1.0, radius / 5.0)
    return Cut(
        level=level,
        centre=centre,
        slope=slope,
        waves=rough_waves(radius, min(1.1, 0.13 * radius), rng),
        twist=float(rng.choice([-1, 1]) * rng.uniform(2.0, 3.5) * radius) * (kind == "spiral"),
        gap=0.25 if kind == "impacted" else gap,
        open_share=1.3 if complete else float(rng.uniform(0.55, 0.85)),
        open_side=np.array([np.cos(side), np.sin(side)]),
        radius=radius,
    )


def corner_cut(cut: Cut, local: Points, site: Site, rng: np.random.Generator) -> Cut:
    """A plane that takes a corner off the nearer end of the bone."""
    middle = 0.5 * (local[:, 0].min() + local[:, 0].max())
    end = 1.0 if cut.level > middle else -1.0
    angle = rng.uniform(0.0, 2.0 * np.pi)
    if site.bone == "humerus":
        # Epicondyles and tuberosity stand out along the wider axis of the bone's end.
        near = np.abs(local[:, 0] - cut.level) < 15.0
        width = np.linalg.svd(local[near, 1:] - cut.centre, full_matrices=False)[2][0]
        angle = np.arctan2(width[1], width[0]) + (np.pi if rng.random() < 0.5 else 0.0)
    across = np.array([np.cos(angle), np.sin(angle)])
    steep = 0.35 if site.bone == "humerus" else 0.65
    normal = np.array([end * steep, *(across * np.sqrt(1.0 - steep**2))])
    near = np.abs(local[:, 0] - cut.level) < max(4.0, 2.5 * cut.radius)
    reach = local[near] @ normal
    size = min(0.42 * cut.radius, 8.0) + 0.8
    top = local[near][int(reach.argmax())]
    point = top - normal * size
    return replace(
        cut, level=float(point[0]), centre=point[1:], normal=normal, open_share=9.0, twist=0.0
    )


def place_fragment(
    fracture: Fracture, pose: Pose, radius: float, severity: float, rng: np.random.Generator
) -> Fracture:
    """How far the moved fragment slipped, tilted and turned."""
    bone, place = pose.bones[fracture.site.bone], pose.places[fracture.site.bone]
    axes = bone.axes @ place.rotation.T
    local = np.concatenate([[fracture.cut.level], fracture.cut.centre])
    pivot = place((bone.origin + local @ bone.axes)[None])[0]
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across = np.cos(angle) * axes[1] + np.sin(angle) * axes[2]
    strength = 0.0 if fracture.kind == "hairline" else severity
    size = min(radius, 12.0)
    slip = strength * rng.uniform(0.3, 1.0) * size
    bend = np.radians(strength * rng.uniform(6.0, 32.0))
    sign = -1.0 if fracture.proximal_moves else 1.0
    shift = slip * across + sign * axes[0] * strength * rng.uniform(0.0, 0.15) * size
    if fracture.kind == "impacted":
        bend *= 0.6
        shift = 0.3 * slip * across - sign * axes[0] * (0.8 + rng.uniform(0.08, 0.2) * size)
    if fracture.kind == "avulsion":
        away = (fracture.cut.normal if fracture.cut.normal is not None else np.zeros(3)) @ axes
        bend *= 0.8
        shift = away * (0.7 + severity * rng.uniform(0.1, 0.35) * size) + 0.3 * slip * across
    rotation = rotation_about(np.cross(axes[0], across), bend)
    return replace(fracture, pivot=pivot, rotation=rotation, shift=shift)
