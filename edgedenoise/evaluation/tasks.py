"""Measure whether denoising helps a task that follows it: finding edges, or finding keypoints again.

A stronger denoiser is not always better for a program that reads the image afterwards. Both measures compare what the
task finds in an image with what it finds in the ground truth, at the best of scikit-image's usual settings, so that the
noisy input and each variant are judged alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from edgedenoise.errors import UsageError
from edgedenoise.extras import missing_package
from edgedenoise.imaging.metrics import luma

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Task = Literal["edges", "keypoints"]
"""`edges`: F-score of Canny's edges. `keypoints`: repeatability of Shi and Tomasi's corners."""
TASKS: tuple[Task, ...] = get_args(Task)

EDGE_TOLERANCE_PX = 1.5
KEYPOINT_TOLERANCE_PX = 2.5
_KEYPOINTS = 500
_CORNER_DISTANCE_PX = 4
_CORNER_SIGMA = 1.5
_CANNY_SIGMA = 1.4


def check_task(task: str) -> Task:
    """Return the name of a task, after checking that it is known and that scikit-image is installed.

    Raises:
        UsageError: there is no such task.
        RuntimeUnavailableError: scikit-image is not installed.
    """
    for known in TASKS:
        if task == known:
            _features()
            return known
    raise UsageError(f"unknown task: expected {' or '.join(TASKS)}, got {task!r}")


def task_score(task: Task, image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return how well a task works on an image: 1 when it finds the same as on the ground truth, 0 when nothing.

    Args:
        task: what is measured.
        image: (H, W, 1 or 3), 8 bits.
        truth: its ground truth, of the same size.

    Raises:
        RuntimeUnavailableError: scikit-image is not installed.

    Example:
        >>> import numpy as np
        >>> steps = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16)))[..., None] * 200
        >>> truth = steps.astype(np.uint8)
        >>> task_score("edges", truth, truth)
        1.0
    """
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
    measure = {"edges": _edge_f_score, "keypoints": _keypoint_repeatability}[task]
    return measure(luma(image) / 255, luma(truth) / 255)


def _edge_f_score(image: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the F-score of edges, each of which may be `EDGE_TOLERANCE_PX` away from one of the ground truth.

    Both images have the same thresholds, Canny's defaults of 0.1 and 0.2 of white, so that noise shows as false edges.
    """
    features = _features()
    found, wanted = (np.argwhere(features.canny(plane, sigma=_CANNY_SIGMA)) for plane in (image, truth))
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    precision = _share_near(found, wanted, EDGE_TOLERANCE_PX)
    recall = _share_near(wanted, found, EDGE_TOLERANCE_PX)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _keypoint_repeatability(image: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the share of the ground truth's keypoints that are found again within `KEYPOINT_TOLERANCE_PX`.

    They are the 500 strongest corners (Shi and Tomasi 1994) of either, so that corners in noise displace true ones.
    """
    found, wanted = _keypoints(image), _keypoints(truth)
    if not len(found) or not len(wanted):
        return float(len(found) == len(wanted))
    return _share_near(wanted, found, KEYPOINT_TOLERANCE_PX)


def _keypoints(plane: NDArray[np.float64]) -> NDArray[np.intp]:
    features = _features()
    strength = features.corner_shi_tomasi(plane, sigma=_CORNER_SIGMA)
    found: NDArray[np.intp] = features.corner_peaks(strength, min_distance=_CORNER_DISTANCE_PX, num_peaks=_KEYPOINTS)
    return found


def _share_near(points: NDArray[Any], others: NDArray[Any], distance_px: float) -> float:
    """Return the share of points (N, 2) with another one at most this far away."""
    from scipy.spatial import cKDTree  # a dependency of scikit-image

    distances, _ = cKDTree(others).query(points, distance_upper_bound=distance_px)
    return float(np.mean(np.isfinite(distances)))


def _features() -> Any:
    try:
        import skimage.feature
    except ModuleNotFoundError as error:
        raise (missing_package(error, "task") or error) from error
    return skimage.feature
