"""Bones as closed, smooth meshes, and the skeleton that poses them.

The surfaces and joints come from the package myo-sim (Apache-2.0); MuJoCo computes where each
bone lies for given joint angles. Everything is in millimetres and in the world frame of the
model: x to the left of the body, y to its back, z up. Only right limbs are modelled; a left
limb is a mirrored picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import myo_sim
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

Points = NDArray[np.float64]
Faces = NDArray[np.int64]

MILLIMETRES = 1000.0

# Edge length (mm) to which a bone is refined: fine enough for a rough fracture edge.
FINE = 1.4
LONG = 2.4
COARSE = 3.5
LONG_BONES = ("humerus", "radius", "ulna", "femur", "tibia", "fibula", "scapula", "foot")
COARSE_BONES = ("ribs", "skull", "jaw", "cervical", "thoracic", "pelvis", "sacrum", "lumbar")

# Thickness of the cortex at mid-shaft as a share of the shaft's radius.
TUBULAR_CORTEX = {
    "humerus": 0.36, "radius": 0.42, "ulna": 0.42, "femur": 0.42, "tibia": 0.40, "fibula": 0.45,
    "clavicle": 0.36, "mc": 0.40, "proxph": 0.40, "midph": 0.36, "distph": 0.30,
    "thumbprox": 0.40, "thumbdist": 0.30,
}  # fmt: skip
SHORT_CORTEX_MM = 0.7
# Bones that the model draws smaller than its own joints leave room for.
GROWTH = {
    "scaphoid": 1.13, "trapezium": 1.08, "trapezoid": 1.05, "lunate": 1.07, "capitate": 1.04,
    "hamate": 1.06, "triquetrum": 1.1, "pisiform": 0.95,
}  # fmt: skip
# Joints that the model holds too wide: a bone, and the shift (mm, in the bone's frame as a unit
# vector and a length) of all that hangs on it.
CLOSER: tuple[tuple[str, tuple[float, float, float], float], ...] = (
    ("radius", (-0.035, -0.102, -0.994), 2.8),
    ("scapula", (0.459, -0.76, 0.455), 2.2),
)
PLATE_CORTEX_MM = 0.8
# Depth of the bowl in the lid of an open end, as a share of its radius.
HOLLOW = 0.16


@dataclass(frozen=True)
class Bone:
    """One bone in its own frame.

    outer, inner: Vx3 mm, surface of the bone and of its marrow space, vertex by vertex.
    faces: Fx3, shared by both, counter-clockwise seen from outside.
    origin, axes: centre (3,) and principal directions (3x3, rows; the first is the long axis and
        points to the distal end) of the outer surface. length: extent along the first, mm.
    tubular: a shaft with a marrow canal and cancellous ends.
    """

    name: str
    outer: Points
    inner: Points
    faces: Faces
    origin: Points
    axes: Points
    length: float
    tubular: bool

    def along(self, share: float) -> Points:
        """Point (3,) on the centre line; 0 is the proximal end, 1 the distal one."""
        s = (self.outer - self.origin) @ self.axes[0]
        level = s.min() + share * (s.max() - s.min())
        near = np.abs(s - level) < max(2.0, 0.03 * self.length)
        if not near.any():
            return np.asarray(self.origin + self.axes[0] * level)
        ring = self.outer[near]
        middle = 0.5 * (ring.min(axis=0) + ring.max(axis=0))
        ahead = level - (middle - self.origin) @ self.axes[0]
        return np.asarray(middle + self.axes[0] * ahead)


@dataclass(frozen=True)
class Placed:
    """Where one bone lies: world = rotation @ local + offset."""

    rotation: Points
    offset: Points

    def __call__(self, local: Points) -> Points:
        return local @ self.rotation.T + self.offset

    def then(self, rotation: Points, centre: Points, shift: Points) -> Placed:
        """Turned about a world point, then shifted."""
        turned = rotation @ (self.offset - centre) + centre + shift
        return Placed(rotation @ self.rotation, turned)


@dataclass(frozen=True)
class Pose:
    """A posed skeleton: the place of every bone, and the axis (3,) of every hinge."""

    bones: dict[str, Bone]
    places: dict[str, Placed]
    hinges: dict[str, Points]

    def point(self, bone: str, share: float) -> Points:
        """World point (3,) on the centre line of a bone; 0 proximal, 1 distal."""
        return self.places[bone](self.bones[bone].along(share))


def orient(faces: Faces) -> Faces:
    """Turn faces so that neighbours agree which side is out; drop faces given twice (Fx3)."""
    faces = faces[np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]]
    count = len(faces)
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(count), 3)
    edge = np.unique(np.sort(half, axis=1), axis=0, return_inverse=True)[1]
    order = np.argsort(edge, kind="stable")
    twice = np.flatnonzero((np.bincount(edge) == 2)[edge[order]])
    first, second = order[twice[0::2]], order[twice[1::2]]
    agree = half[first, 0] != half[second, 0]
    links: list[list[tuple[int, bool]]] = [[] for _ in range(count)]
    pairs = zip(owner[first].tolist(), owner[second].tolist(), agree.tolist(), strict=True)
    for a, b, same in pairs:
        links[a].append((b, same))
        links[b].append((a, same))
    turned = np.zeros(count, bool)
    seen = np.zeros(count, bool)
    for start in range(count):
        if seen[start]:
            continue
        seen[start] = True
        queue = [start]
        while queue:
            face = queue.pop()
            for other, same in links[face]:
                if not seen[other]:
                    seen[other] = True
                    turned[other] = turned[face] if same else not turned[face]
                    queue.append(other)
    faces = faces.copy()
    faces[turned] = faces[turned][:, ::-1]
    return faces


def close(vertices: Points, faces: Faces) -> tuple[Points, Faces, NDArray[np.bool_]]:
    """Close every hole with a fan about its centre; also tells which faces are lids (F,).

    An edge is closed when it is passed as often in one direction as in the other. Where it is
    not, lids make up the difference, so that path lengths are defined even where faces overlap.
    """
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = half.min(axis=1), half.max(axis=1)
    edges, index = np.unique(np.stack([low, high], 1), axis=0, return_inverse=True)
    net = np.bincount(index, np.where(half[:, 0] == low, 1, -1)).astype(int)
    rim = np.concatenate([
        np.repeat(edges, np.maximum(net, 0), axis=0),
        np.repeat(edges[:, ::-1], np.maximum(-net, 0), axis=0),
    ])  # fmt: skip
    is_lid = np.zeros(len(faces) + len(rim), bool)
    is_lid[len(faces) :] = True
    if not len(rim):
        return vertices, faces, is_lid
    rim, hole = simple_loops(rim)
    centres = np.stack([vertices[rim[hole == k, 0]].mean(axis=0) for k in range(hole.max() + 1)])
    lids = np.stack([rim[:, 1], rim[:, 0], len(vertices) + hole], axis=1)
    return np.concatenate([vertices, centres]), np.concatenate([faces, lids]), is_lid


def simple_loops(rim: Faces) -> tuple[Faces, NDArray[np.int64]]:
    """Sort directed edges (Rx2) that balance at each vertex into loops; also each one's loop."""
    ways: dict[int, list[int]] = {}
    for a, b in rim.tolist():
        ways.setdefault(a, []).append(b)
    edges, loop_of, loops = [], [], 0
    for start in list(ways):
        while ways[start]:
            path = [start]
            while ways.get(path[-1]):
                step = ways[path[-1]].pop()
                if step not in path:
                    path.append(step)
                    continue
                # The walk met itself: what lies between is one loop.
                at = path.index(step)
                ring = [*path[at:], step]
                edges += list(pairwise(ring))
                loop_of += [loops] * (len(ring) - 1)
                loops += 1
                path = path[: at + 1]
    return np.array(edges), np.array(loop_of)


def stretch_lids(vertices: Points, faces: Faces, is_lid: NDArray[np.bool_]) -> Points:
    """Let the inside of the lids (faces flagged) become a taut, slightly sunken skin (Vx3)."""
    inside = np.ones(len(vertices), bool)
    inside[faces[~is_lid]] = False
    if not inside.any():
        return vertices
    mean = neighbour_mean(len(vertices), faces)[inside]
    vertices = vertices.copy()
    hollow = np.zeros(len(vertices))
    for _ in range(300):
        vertices[inside] = mean @ vertices
        hollow[inside] = mean @ hollow + 1.0
    # A joint surface is a shallow bowl, not a flat lid.
    a, b, c = (vertices[faces[is_lid, k]] for k in range(3))
    radius = np.sqrt(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / np.pi)
    depth = HOLLOW * radius * hollow / hollow.max()
    return np.asarray(vertices - depth[:, None] * normals(vertices, faces))


def subdivide(vertices: Points, faces: Faces) -> tuple[Points, Faces]:
    """Split each triangle into four at the middles of its edges."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    unique, index = np.unique(edges, axis=0, return_inverse=True)
    middle = index.reshape(3, -1) + len(vertices)
    a, b, c = faces.T
    ab, bc, ca = middle
    split = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    points = np.concatenate([vertices, vertices[unique].mean(axis=1)])
    return points, np.concatenate([np.stack(t, axis=1) for t in split])


def neighbour_mean(count: int, faces: Faces) -> sparse.csr_matrix:
    """Matrix that replaces each vertex value by the mean over its neighbours."""
    i = faces[:, [0, 1, 1, 2, 2, 0]].ravel()
    j = faces[:, [1, 0, 2, 1, 0, 2]].ravel()
    linked = sparse.csr_matrix((np.ones(len(i)), (i, j)), shape=(count, count))
    linked.data[:] = 1.0
    return sparse.diags(1.0 / np.maximum(linked.sum(axis=1).A1, 1.0)) @ linked


def smooth(vertices: Points, faces: Faces, rounds: int) -> Points:
    """Taubin smoothing: a step inwards and one outwards, so that volume is kept."""
    mean = neighbour_mean(len(vertices), faces)
    for _ in range(rounds):
        for weight in (0.55, -0.56):
            vertices = vertices + weight * (mean @ vertices - vertices)
    return vertices


def refine(
    vertices: Points, faces: Faces, is_lid: NDArray[np.bool_], edge: float
) -> tuple[Points, Faces]:
    """Subdivide and smooth until the mean edge is at most ``edge`` mm long."""
    for _ in range(4):
        mean_edge = np.linalg.norm(vertices[faces[:, 0]] - vertices[faces[:, 1]], axis=1).mean()
        if mean_edge <= edge:
            break
        vertices, faces = subdivide(vertices, faces)
        is_lid = np.tile(is_lid, 4)
        vertices = smooth(stretch_lids(vertices, faces, is_lid), faces, 3)
    return vertices, faces


def normals(vertices: Points, faces: Faces) -> Points:
    """Unit vertex normals (Vx3), outwards."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(total, faces[:, k], area)
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def local_thickness(vertices: Points, faces: Faces, limit: float) -> NDArray[np.float64]:
    """About how thick the bone is behind each vertex (V,), at most ``limit`` mm."""
    normal = normals(vertices, faces)
    tree = cKDTree(vertices)
    thickness = np.full(len(vertices), limit)
    for depth in np.linspace(limit, limit / 6.0, 6):
        # A ball just inside the surface that touches another wall tells that the bone is thin.
        touch = 0.45 * depth
        distance = tree.query(vertices - normal * depth / 2.0, distance_upper_bound=touch)[0]
        thickness = np.where(distance < touch, np.minimum(thickness, depth), thickness)
    return thickness


def principal_axes(vertices: Points, distal: Points) -> tuple[Points, Points, float]:
    """Centre, principal directions and length; the first axis points along ``distal`` (3,)."""
    origin = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    mean = vertices.mean(axis=0)
    axes = np.linalg.svd(vertices - mean, full_matrices=False)[2]
    if axes[0] @ distal < 0:
        axes[0] = -axes[0]
    axes[2] = np.cross(axes[0], axes[1])
    s = (vertices - mean) @ axes[0]
    origin = mean + axes[0] * 0.5 * (s.min() + s.max())
    return origin, axes, float(np.ptp(s))


def cortex_share(name: str) -> float | None:
    """Share of the radius that is cortex at mid-shaft; None where the bone has no shaft."""
    for key, share in TUBULAR_CORTEX.items():
        if key in name:
            return share
    return None


def marrow_surface(
    name: str, vertices: Points, faces: Faces, origin: Points, axes: Points
) -> Points:
    """Vertices moved inwards by the thickness of the cortex (Vx3)."""
    share = cortex_share(name)
    mean = neighbour_mean(len(vertices), faces)
    normal = normals(vertices, faces)
    for _ in range(3):
        normal = 0.5 * normal + 0.5 * (mean @ normal)
    if share is None:
        rind = PLATE_CORTEX_MM if "scapula" in name or "ribs" in name else SHORT_CORTEX_MM
        rind = 2.6 if "skull" in name else rind
        part = 0.42 if name == "scapula" else 0.3
        thickness = np.minimum(rind, part * local_thickness(vertices, faces, 6.0 * rind))
        for _ in range(4):
            thickness = np.minimum(thickness, mean @ thickness)
        return np.asarray(vertices - normal * thickness[:, None])
    local = (vertices - origin) @ axes.T
    s = local[:, 0] / np.abs(local[:, 0]).max()
    bins = np.clip(((s + 1.0) * 20).astype(int), 0, 39)
    total = np.bincount(bins, minlength=40)
    centre = np.stack([np.bincount(bins, local[:, k], 40) / np.maximum(total, 1) for k in (1, 2)])
    radius = np.hypot(local[:, 1] - centre[0, bins], local[:, 2] - centre[1, bins])
    typical = (np.bincount(bins, radius, 40) / np.maximum(total, 1))[bins]
    # Thick at mid-shaft, a thin shell over the cancellous ends.
    shaft = np.clip((0.86 - np.abs(s)) / 0.45, 0.0, 1.0)
    shaft = shaft * shaft * (3.0 - 2.0 * shaft)
    thickness = share * shaft * typical + 0.035 * typical + 0.25
    thickness = np.minimum(thickness, 0.36 * local_thickness(vertices, faces, 12.0))
    for _ in range(4):
        thickness = mean @ thickness
    return np.asarray(vertices - normal * thickness[:, None])


def drop_cartilage(vertices: Points, faces: Faces) -> Faces:
    """The rib cage without its breastbone and cartilages, which X-rays hardly show (Fx3)."""
    i, j = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    graph = sparse.coo_matrix((np.ones(len(i)), (i, j)), shape=(len(vertices),) * 2)
    label = sparse.csgraph.connected_components(graph, directed=False)[1][faces[:, 0]]
    return np.concatenate([
        part for part in (faces[label == k] for k in np.unique(label))
        # A rib has about 95 vertices, what else there is has far fewer or far more.
        if 48 <= len(np.unique(part)) <= 110 and len(part) > 60
    ])  # fmt: skip


def edge_length(name: str) -> float:
    """Edge length (mm) to which the bone's surface is refined."""
    if any(key in name for key in COARSE_BONES):
        return COARSE
    return LONG if name in LONG_BONES else FINE


def build_bone(name: str, vertices: Points, faces: Faces, distal: Points) -> Bone:
    """A closed, refined bone from a raw surface (Vx3 mm, Fx3) and its distal direction (3,)."""
    faces = drop_cartilage(vertices, orient(faces)) if name == "ribs" else orient(faces)
    vertices, faces, is_lid = close(vertices * GROWTH.get(name, 1.0), faces)
    vertices, faces = refine(vertices, faces, is_lid, edge_length(name))
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    if np.einsum("ij,ij->", a, np.cross(b, c)) < 0:
        faces = faces[:, ::-1].copy()
    origin, axes, length = principal_axes(vertices, distal)
    inner = marrow_surface(name, vertices, faces, origin, axes)
    tubular = cortex_share(name) is not None
    return Bone(name, vertices, inner, faces, origin, axes, length, tubular)


class Skeleton:
    """The model's right arm, right leg, trunk and head. Read-only once built."""

    def __init__(self, only: Iterable[str] | None = None) -> None:
        """Load the model and refine its bones; ``only`` limits them to the names given."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mujoco.set_mju_user_warning(lambda message: None)
            self._model = myo_sim.load_model("myofullbody")
        self._geoms = self._find_geoms(only)
        self._parents = {
            name: int(self._model.geom_bodyid[geom]) for name, geom in self._geoms.items()
        }
        neutral = self._places({})[0]
        self.bones = {
            name: build_bone(name, *self._surface(geom), self._distal(name, neutral[name]))
            for name, geom in self._geoms.items()
        }

    def _find_geoms(self, only: Iterable[str] | None) -> dict[str, int]:
        model, wanted = self._model, None if only is None else set(only)
        found: dict[str, int] = {}
        for geom in range(model.ngeom):
            if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_MESH:
                continue
            name = model.mesh(int(model.geom_dataid[geom])).name
            for prefix in ("torso_geom_13_", "hat_", "r_"):
                name = name.removeprefix(prefix)
            name = name.split("_")[-2] if name.endswith("_s") else name.removesuffix("_r")
            if name.endswith("_l") or name.startswith("l_"):
                continue
            name = {"1mc": "mc1", "ribcage": "ribs"}.get(name, name)
            if wanted is None or name in wanted:
                found[name] = geom
        return found

    def _surface(self, geom: int) -> tuple[Points, Faces]:
        mesh = self._model.mesh(int(self._model.geom_dataid[geom]))
        v0, vn = int(mesh.vertadr[0]), int(mesh.vertnum[0])
        f0, fn = int(mesh.faceadr[0]), int(mesh.facenum[0])
        vertices = self._model.mesh_vert[v0 : v0 + vn].astype(np.float64) * MILLIMETRES
        return vertices, self._model.mesh_face[f0 : f0 + fn].astype(np.int64)

    def _distal(self, name: str, place: Placed) -> Points:
        """The distal direction in the bone's frame: down the hanging limb, out on the clavicle."""
        world = np.array([-1.0, 0.0, 0.0] if name == "clavicle" else [0.0, 0.0, -1.0])
        if name in ("foot", "bofoot"):
            world = np.array([0.0, -1.0, 0.0])
        return np.asarray(place.rotation.T @ world)

    def _places(self, joints: dict[str, float]) -> tuple[dict[str, Placed], dict[str, Points]]:
        model = self._model
        data = mujoco.MjData(model)
        for name, angle in joints.items():
            data.qpos[model.joint(name).qposadr[0]] = angle
        self._couple(data)
        mujoco.mj_kinematics(model, data)
        places = {
            name: Placed(
                data.geom_xmat[geom].reshape(3, 3).copy(), data.geom_xpos[geom] * MILLIMETRES
            )
            for name, geom in self._geoms.items()
        }
        self._tighten(places)
        return places, {model.joint(k).name: data.xaxis[k].copy() for k in range(model.njnt)}

    def _couple(self, data: mujoco.MjData) -> None:
        """Joints that follow others (knee, shoulder girdle) by the model's polynomials."""
        model = self._model
        for k in range(model.neq):
            if model.eq_type[k] != mujoco.mjtEq.mjEQ_JOINT:
                continue
            slave = model.jnt_qposadr[model.eq_obj1id[k]]
            master = model.eq_obj2id[k]
            x = 0.0
            if master >= 0:
                at = model.jnt_qposadr[master]
                x = data.qpos[at] - model.qpos0[at]
            data.qpos[slave] = model.qpos0[slave] + np.polyval(model.eq_data[k, 4::-1], x)

    def _tighten(self, places: dict[str, Placed]) -> None:
        """Close the joints that the model holds too wide, in place."""
        for bone, direction, distance in CLOSER:
            if bone not in places:
                continue
            towards = places[bone].rotation @ np.array(direction)
            for name in self.distal_of(bone):
                if name in places:
                    old = places[name]
                    places[name] = Placed(old.rotation, old.offset + distance * towards)

    def pose(self, joints: dict[str, float]) -> Pose:
        """Place every bone for the joint angles given (rad); all others stay neutral."""
        return Pose(self.bones, *self._places(joints))

    def distal_of(self, bone: str) -> list[str]:
        """Bones that move with the distal end of ``bone``."""
        body, parents = self._parents[bone], self._model.body_parentid

        def hangs_on(child: int) -> bool:
            while child > 0:
                child = int(parents[child])
                if child == body:
                    return True
            return False

        return [name for name, own in self._parents.items() if hangs_on(own)]
