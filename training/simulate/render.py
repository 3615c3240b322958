"""One simulated case from one seed: pose, finding, projection, picture, truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from training.simulate import display, findings, hardware, physics
from training.simulate.anatomy import Bone, Placed, Points, Pose, Skeleton
from training.simulate.parts import OTHERS, SUPPORTED
from training.simulate.physics import Camera, Image
from training.simulate.views import View, all_views, rolled, tilted, yawed

TRIES = 20
MAX_GREY = 4095
BLEND_MM = 9.0
# A crack must change the picture by this share of its grey range to be called visible.
VISIBLE = 0.03
MIN_CRACK_PIXELS = 12


@dataclass(frozen=True)
class Order:
    """What a case shall show; None is drawn at random.

    seed, index: the case's own random stream. size: longest side in pixels. stamp: write
    SIMULATED into the picture.
    """

    seed: int
    index: int
    size: int = 512
    part: str | None = None
    view: str | None = None
    positive: bool | None = None
    metal: bool | None = None
    cast: bool | None = None
    severity: float | None = None
    stamp: bool = False


@dataclass(frozen=True)
class Case:
    """One simulated radiograph with its truth.

    pixels: HxW uint16 in [0, 4095], bright where dense. mask: HxW uint8, 255 on the crack.
    boxes: x0 y0 x1 y1 in fractions of width and height. side: "L" or "R". finding: kind and place
    in words, empty where there is none. severity: as drawn, 0 barely visible to 1 obvious.
    spacing: mm per pixel at the detector. orientation: where the picture's right and its lower edge
    point on a standing body, as in DICOM's Patient Orientation (PS3.3 C.7.6.1.1.1).
    """

    pixels: NDArray[np.uint16]
    mask: NDArray[np.uint8]
    boxes: tuple[tuple[float, float, float, float], ...]
    part: str
    view: str
    title: str
    side: str
    positive: bool
    finding: str
    severity: float
    hardware: str
    spacing: float
    orientation: tuple[str, str]


@dataclass(frozen=True)
class Body:
    """What differs between people: size, build, density of the bones."""

    size: float
    girth: float
    fat: float
    width: tuple[float, float]
    cortex: float
    marrow: float


@dataclass(frozen=True)
class Scene:
    """A posed and placed case before it is projected."""

    view: View
    pose: Pose
    camera: Camera
    body: Body
    fracture: findings.Fracture | None
    severity: float = 0.0


def draw_body(rng: np.random.Generator) -> Body:
    """From slight to heavy, from young and dense to old and thin-walled."""
    age = rng.random()
    return Body(
        size=float(rng.uniform(0.88, 1.1)),
        girth=float(rng.uniform(0.86, 1.16)),
        fat=float(rng.uniform(0.5, 1.7)),
        width=(float(rng.uniform(0.92, 1.08)), float(rng.uniform(0.92, 1.08))),
        cortex=float(1.15 - 0.5 * age**1.5),
        marrow=float(rng.uniform(0.85, 1.15) * (1.1 - 0.45 * age)),
    )


def individual(bone: Bone, body: Body) -> Bone:
    """The bone of one person: slimmer or broader, thicker or thinner walled."""
    stretch = np.array([1.0, *body.width])
    shape = bone.axes.T @ (stretch[:, None] * bone.axes)
    outer = (bone.outer - bone.origin) @ shape + bone.origin
    inner = outer + body.cortex * (bone.inner - bone.outer)
    return replace(bone, outer=outer, inner=inner)


def choose_view(order: Order, rng: np.random.Generator) -> View:
    """A view that the order allows; one case in eight shows an unsupported part."""
    part = order.part
    if part is None:
        supported = order.positive or rng.random() < 0.875
        part = str(rng.choice(SUPPORTED if supported else OTHERS))
    views = [v for v in all_views() if v.part == part and order.view in (None, v.name)]
    if not views:
        raise ValueError(f"no view {order.view!r} of {part!r}")
    return views[int(rng.integers(len(views)))]


def draw_camera(
    view: View, pose: Pose, order: Order, body: Body, rng: np.random.Generator
) -> Camera:
    """The beam's direction, distance, field and centre for one case."""
    axes = tilted(yawed(view.frame(pose), rng.uniform(*view.yaw)), rng.uniform(*view.tilt))
    axes = rolled(axes, rng.uniform(*view.roll) + 90.0 * float(rng.choice(view.turns)))
    aspect = float(rng.choice(view.aspects))
    height, width = (order.size, round(order.size * aspect)) if aspect <= 1 else (
        round(order.size / aspect), order.size)  # fmt: skip
    source, behind = float(rng.uniform(1000.0, 1150.0)), float(rng.uniform(25.0, 70.0))
    field_mm = rng.uniform(*view.extent) / body.size * (1.0 if aspect <= 1 else 1.0 / aspect**0.5)
    magnification = source / (source - behind)
    shift = rng.uniform(-view.shift, view.shift, 2) * order.size
    return Camera(
        axes=axes,
        target=view.target(pose),
        object_distance=source - behind,
        source_distance=source,
        pitch=field_mm * magnification / height,
        size=(height, width),
        centre=(width / 2.0 + float(shift[0]) * min(1.0, aspect), height / 2.0 + float(shift[1])),
    )


def draw_scene(skeleton: Skeleton, order: Order, rng: np.random.Generator) -> Scene:
    """Everything about a case but its metal, casts, exposure and look."""
    view, body = choose_view(order, rng), draw_body(rng)
    joints = {name: float(rng.uniform(*span)) for name, span in view.joints.items()}
    posed = skeleton.pose(joints)
    bones = {name: individual(skeleton.bones[name], body) for name in view.bones}
    pose = Pose(bones, {name: posed.places[name] for name in view.bones}, posed.hinges)
    camera = draw_camera(view, pose, order, body, rng)
    positive = order.positive if order.positive is not None else rng.random() < 0.5
    # Of parts that nobody asked for by name, those that are not supported are there to be refused.
    broken = findings.SITES if order.part else SUPPORTED
    if not positive or view.part not in broken:
        return Scene(view, pose, camera, body, None)
    severity = order.severity if order.severity is not None else float(rng.random())
    fracture, pose = visible_fracture(skeleton, view, pose, camera, severity, rng)
    return Scene(view, pose, camera, body, fracture, severity)


def moved_pose(skeleton: Skeleton, pose: Pose, fracture: findings.Fracture) -> Pose:
    """The pose in which all that hangs on the moved fragment has moved with it."""
    if fracture.proximal_moves or fracture.kind in ("avulsion", "hairline"):
        return pose
    if fracture.site.bone == "clavicle":
        return pose
    places = dict(pose.places)
    for name in skeleton.distal_of(fracture.site.bone):
        if name in places:
            places[name] = places[name].then(fracture.rotation, fracture.pivot, fracture.shift)
    return replace(pose, places=places)


def visible_fracture(
    skeleton: Skeleton, view: View, pose: Pose, camera: Camera, severity: float,
    rng: np.random.Generator,
) -> tuple[findings.Fracture, Pose]:  # fmt: skip
    """Draw fractures until one lies in the picture and changes it; harder ones as tries fail."""
    for attempt in range(40):
        harder = min(1.0, severity + 0.025 * max(0, attempt - 4))
        fracture = findings.draw_fracture(view.part, view.name, pose, harder, rng)
        if is_visible(pose, camera, fracture):
            return fracture, moved_pose(skeleton, pose, fracture)
    raise RuntimeError(f"no visible fracture found for {view.part} {view.name}")


def is_visible(pose: Pose, camera: Camera, fracture: findings.Fracture) -> bool:
    """Does the crack lie well inside the picture and change the bone's shadow enough?"""
    height, width = camera.size
    spot = camera.project(fracture.pivot[None])[0]
    if not (0.1 * width < spot[0] < 0.9 * width and 0.1 * height < spot[1] < 0.9 * height):
        return False
    bone, place = pose.bones[fracture.site.bone], pose.places[fracture.site.bone]
    intact = findings.whole(bone, place, bone.outer, bone.inner)
    pieces, rims = findings.break_solid(intact, fracture, bone.outer, bone.inner)
    mask = findings.crack_mask(rims, camera, 1.0) > 0
    if mask.sum() < MIN_CRACK_PIXELS:
        return False
    before, after = np.zeros(camera.size, np.float32), np.zeros(camera.size, np.float32)
    even = np.zeros((2, 2), np.float32)
    add_shadow(before, intact, camera, even)
    for piece in pieces:
        add_shadow(after, piece, camera, even)
    # Judged as the detector sees it, and at the fine scale that tells a line from a tilt.
    change = cv2.GaussianBlur(after - before, (0, 0), 0.9)[mask]
    return float(np.percentile(np.abs(change), 80)) > VISIBLE * 3.0


def add_shadow(
    picture: Image, solid: findings.Solid, camera: Camera, marrow: Image | None = None
) -> None:
    """Add a bone's line integrals, in excess of the flesh it displaces, to the HxW picture."""
    outer = physics.path_length(camera.project(solid.outer), solid.outer_faces, camera.size)
    if not outer.values.size:
        return
    outer.add_to(picture, physics.MU_CORTEX - physics.MU_MUSCLE)
    window = (outer.top, outer.left, *outer.values.shape)
    inner = physics.path_length(camera.project(solid.inner), solid.inner_faces, camera.size, window)
    np.minimum(inner.values, outer.values, out=inner.values)
    inner.add_to(picture, physics.MU_MARROW - physics.MU_CORTEX)
    if marrow is not None:
        spongy = spongiosa(solid.bone, solid.place, camera, inner, marrow)
        physics.Patch(inner.values * spongy, inner.top, inner.left).add_to(picture)


def spongiosa(
    bone: Bone, place: Placed, camera: Camera, patch: physics.Patch, grain: Image
) -> Image:
    """Attenuation of the marrow space beyond that of marrow (hxw, per mm), for one bone.

    grain: texture of mean 0, its rows along the bone; it moves with the bone.
    """
    centre = place(bone.origin[None])
    ends = camera.project(np.concatenate([centre, centre + place.rotation @ bone.axes[0]]))
    d = ends[1, :2] - ends[0, :2]
    scale = camera.scale()
    stretch = max(float(np.linalg.norm(d)), 0.45 * scale)
    d = d / max(float(np.linalg.norm(d)), 1e-9)
    h, w = patch.values.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    x, y = x + patch.left - ends[0, 0], y + patch.top - ends[0, 1]
    along = (x * d[0] + y * d[1]) / stretch
    across = (y * d[0] - x * d[1]) / scale
    density = np.full((h, w), physics.MU_TRABECULAR - physics.MU_MARROW, np.float32)
    if bone.name == "skull":
        density[:] = physics.MU_MUSCLE - physics.MU_MARROW
        return density
    if bone.tubular:
        share = np.clip((np.abs(along) / (0.5 * bone.length) - 0.45) / 0.42, 0.0, 1.0)
        density *= 0.08 + 0.92 * share * share * (3.0 - 2.0 * share)
    n = grain.shape[0]
    u = np.mod(across / 0.24 + 37.0 * len(bone.name), n - 1.0).astype(np.float32)
    v = np.mod(along / 0.24 + 11.0 * bone.length, n - 1.0).astype(np.float32)
    texture = cv2.remap(grain, u, v, cv2.INTER_LINEAR)
    return (density * (1.0 + texture)).astype(np.float32)


def trabeculae(rng: np.random.Generator, strength: float) -> Image:
    """Texture of cancellous bone (512x512, mean 0), struts mostly along the rows' normal."""
    white = rng.standard_normal((512, 512), dtype=np.float32)
    struts = cv2.GaussianBlur(white, (0, 0), sigmaX=1.1, sigmaY=5.0)
    cross = cv2.GaussianBlur(white[::-1], (0, 0), sigmaX=4.0, sigmaY=1.1)
    blotch = cv2.GaussianBlur(white.T.copy(), (0, 0), 9.0)
    total = struts / struts.std() + 0.6 * cross / cross.std() + 0.4 * blotch / blotch.std()
    return np.asarray(strength * total / total.std(), np.float32)


def flesh(scene: Scene, rng: np.random.Generator) -> tuple[Image, Image]:
    """Line integrals of skin, fat and muscle (HxW), and the thickness of the body (HxW mm)."""
    cones = scene.view.cones(scene.pose)
    body = scene.body
    # The ribs do not get smaller with the flesh around them.
    cones[:, 6:8] *= body.girth if scene.view.cavities is None else max(body.girth, 0.97)
    cones[:, 8] = np.minimum(cones[:, 8] * body.fat, 0.45 * cones[:, 6:8].min(axis=1))
    cones[:, 6:8] += 0.5 * (body.fat - 1.0) * cones[:, 8:9]
    length = physics.soft_tissue(cones, scene.camera, BLEND_MM)
    total, inside, muscle = (length[..., k] for k in range(3))
    shape = (scene.camera.size[1], scene.camera.size[0])
    coarse = rng.normal(0.0, 1.0, (12, 12)).astype(np.float32)
    uneven = 1.0 + 0.05 * cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC)
    shadow = physics.MU_SKIN * (total - inside) + physics.MU_FAT * (inside - muscle)
    shadow += physics.MU_MUSCLE * muscle * uneven
    if scene.view.cavities is not None:
        air = physics.soft_tissue(scene.view.cavities(scene.pose), scene.camera, BLEND_MM)[..., 0]
        # The chest wall stays at least some centimetres thick, however slim the body is.
        air = np.minimum(air, 0.85 * np.maximum(muscle - 28.0, 0.0))
        shadow -= (physics.MU_MUSCLE - physics.MU_LUNG) * air
    return shadow, total


def bones(scene: Scene, rng: np.random.Generator) -> tuple[Image, Points]:
    """Line integrals of the skeleton beyond the flesh (HxW), and the crack's rims (Sx2x3)."""
    picture = np.zeros(scene.camera.size, np.float32)
    grain = trabeculae(rng, float(rng.uniform(0.07, 0.17)))
    rims = np.zeros((0, 2, 3))
    for name in scene.view.bones:
        bone, place = scene.pose.bones[name], scene.pose.places[name]
        solids = [findings.whole(bone, place, bone.outer, bone.inner)]
        if scene.fracture is not None and name == scene.fracture.site.bone:
            solids, rims = findings.break_solid(solids[0], scene.fracture, bone.outer, bone.inner)
        for solid in solids:
            add_shadow(picture, solid, scene.camera, grain * scene.body.marrow)
    return picture, rims


def metal_and_cast(
    scene: Scene, order: Order, rng: np.random.Generator
) -> tuple[Image, Image, str]:
    """Line integrals of metal and of a cast (HxW each) and their names."""
    size, part = scene.camera.size, scene.view.part
    metal, cast = np.zeros(size, np.float32), np.zeros(size, np.float32)
    names = []
    if part not in SUPPORTED:
        return metal, cast, ""
    # The same shares with and without a fracture, so that metal says nothing.
    has_metal = order.metal if order.metal is not None else rng.random() < 0.15
    has_cast = order.cast if order.cast is not None else rng.random() < 0.1
    if has_metal:
        near = scene.fracture.site.bone if scene.fracture else None
        name, solids = hardware.draw_metal(part, scene.pose, near, rng)
        mu = physics.MU_METAL["titanium" if rng.random() < 0.6 else "steel"]
        for points, faces in solids:
            physics.path_length(scene.camera.project(points), faces, size).add_to(metal, mu)
        names.append(name)
    if has_cast and part != "shoulder":
        kind = "plaster" if rng.random() < 0.5 else "fibreglass"
        gap, thick = rng.uniform(1.0, 3.0), rng.uniform(3.0, 6.5)
        layers = [
            physics.soft_tissue(
                hardware.cast_cones(part, scene.pose, grow), scene.camera, BLEND_MM
            )[..., 0]
            for grow in (gap + thick, gap)
        ]
        window = hardware.cast_window(part, scene.pose, scene.camera, rng)
        shell = np.maximum(layers[0] - layers[1], 0.0) * window
        cast += physics.MU_CAST[kind] * shell * hardware.weave(size, rng)
        names.append(f"{kind} cast")
    return metal, cast, ", ".join(names)


def boxes_of(mask: NDArray[np.uint8]) -> tuple[tuple[float, float, float, float], ...]:
    """The box around a mask, in fractions of width and height; none where it is empty."""
    y, x = np.nonzero(mask)
    if not len(y):
        return ()
    h, w = mask.shape
    return ((x.min() / w, y.min() / h, (x.max() + 1) / w, (y.max() + 1) / h),)


def orientation_of(axes: Points, side: str) -> tuple[str, str]:
    """The letters of the picture's right and downward directions; axes: 3x3, of the right limb.

    A picture of a left limb is mirrored, and so is the body that it shows.
    """
    right, down = axes[0], axes[1]
    if side == "L":
        right, down = right * (1.0, -1.0, -1.0), down * (-1.0, 1.0, 1.0)

    def letter(direction: Points) -> str:
        axis = int(np.argmax(np.abs(direction)))
        return ("RL", "AP", "FH")[axis][int(direction[axis] > 0)]

    return letter(right), letter(down)


def simulate(skeleton: Skeleton, order: Order) -> Case:
    """One case, fully determined by the order."""
    rng = np.random.default_rng([order.seed, order.index])
    for _ in range(8):
        try:
            scene = draw_scene(skeleton, order, rng)
            break
        except RuntimeError:
            continue
    else:
        raise RuntimeError(f"no case found for {order}")
    shadow, thickness = flesh(scene, rng)
    skeleton_shadow, rims = bones(scene, rng)
    metal, cast, names = metal_and_cast(scene, order, rng)
    mask = findings.crack_mask(rims, scene.camera, 0.006 * order.size)
    exposure = physics.Exposure(
        photons=float(10 ** rng.uniform(3.0, 4.1)),
        blur=float(rng.uniform(0.45, 0.95)),
        scatter=float(rng.uniform(0.1, 0.45)),
    )
    measured = physics.expose(shadow + skeleton_shadow + metal + cast, exposure, rng)
    grey, mask, side = picture_of(measured, mask, thickness, metal, order, rng)
    fracture = scene.fracture
    return Case(
        pixels=np.rint(np.clip(grey, 0.0, 1.0) * MAX_GREY).astype(np.uint16),
        mask=mask,
        boxes=boxes_of(mask),
        part=scene.view.part,
        view=scene.view.name,
        title=scene.view.title,
        side=side,
        positive=fracture is not None,
        finding=f"{fracture.kind}, {fracture.site.name}" if fracture else "",
        severity=scene.severity,
        hardware=names,
        spacing=scene.camera.pitch,
        orientation=orientation_of(scene.camera.axes, side),
    )


def draw_field(mask: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """Open, or a collimator that leaves the finding in the picture.

    Whether there is a collimator is drawn before the finding is looked at, and another one is tried
    where it would cut into it: else "collimated" would mean "no finding".
    """
    if rng.random() < 0.5:
        return np.ones(mask.shape, np.float32)
    for _ in range(TRIES):
        field = display.collimator(mask.shape, rng)
        if not (field[mask > 0] < 0.95).any():
            return field
    return np.ones(mask.shape, np.float32)


def edged(grey: Image, mask: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """The picture with a bright film edge that leaves the finding alone, as far as it can be."""
    for _ in range(TRIES):
        out = display.plate_edge(grey, rng)
        if not (out != grey)[mask > 0].any():
            return out
    return grey


def picture_of(
    measured: Image, mask: NDArray[np.uint8], thickness: Image, metal: Image, order: Order,
    rng: np.random.Generator,
) -> tuple[Image, NDArray[np.uint8], str]:  # fmt: skip
    """The shown picture in [0, 1], its mask, and the side of the body it shows."""
    side = "R"
    if rng.random() < 0.5:
        side = "L"
        measured, mask = measured[:, ::-1].copy(), mask[:, ::-1].copy()
        thickness, metal = thickness[:, ::-1], metal[:, ::-1]
    field = draw_field(mask, rng)
    grey = display.develop(measured, field, metal, display.draw_look(rng))
    if rng.random() < 0.75:
        grey = display.marker(grey, side, thickness, field, rng)
    grey = display.show_borders(grey, field, rng)
    if field.min() == 1.0 and rng.random() < 0.2:
        grey = edged(grey, mask, rng)
    if order.stamp:
        grey = display.stamp_simulated(grey)
    return grey, mask, side
