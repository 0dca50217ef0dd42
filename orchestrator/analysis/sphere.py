"""Geometry of memories as k directions: turns along great circles, angles, and the area of a spherical cap.

Knows nothing of models, texts or files.
"""

# Axes: K vectors of a memory, D embedding width.

from math import lgamma, log, pi

import numpy as np
from numpy.typing import NDArray

CAP_NODES, CAP_WEIGHTS = np.polynomial.legendre.leggauss(256)
"""The Gauss-Legendre rule for the area of a cap. Towards the rim the integrand is a power of about D, which a rule of a
few times sqrt(D) nodes integrates to the last digits: enough for D up to 10,000."""

Vectors = NDArray[np.float64]


def angles_between(first_KD: NDArray[np.floating], second_KD: NDArray[np.floating]) -> Vectors:
    """Angle of each vector of one memory with its like in the other, in radians, (K,); a zero vector has an angle of 0.

    Source: Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", section 12: small
        angles keep their digits, too.
    """
    first, second = _directions(first_KD), _directions(second_KD)
    is_direction = first.any(-1) & second.any(-1)
    angles = 2 * np.arctan2(np.linalg.norm(first - second, axis=-1), np.linalg.norm(first + second, axis=-1))
    return np.where(is_direction, angles, 0.0)


def turned(
    memory_KD: NDArray[np.floating], towards_KD: NDArray[np.floating], angles_K: NDArray[np.floating] | float
) -> Vectors:
    """Every vector turned by its angle in radians, on the great circle that leads towards its like in `towards_KD`.

    Lengths stay. A vector that is parallel to its like names no circle and is scaled by the angle's cosine.
    """
    direction_KD = _directions(memory_KD)
    along_KD = towards_KD - (towards_KD * direction_KD).sum(-1, keepdims=True) * direction_KD
    # Once more: of nearly parallel vectors, little but rounding is left after the first time.
    along_KD = along_KD - (along_KD * direction_KD).sum(-1, keepdims=True) * direction_KD
    angles_K1 = np.broadcast_to(angles_K, len(memory_KD))[:, None]
    lengths_K1 = np.linalg.norm(memory_KD.astype(np.float64), axis=-1, keepdims=True)
    return lengths_K1 * (np.cos(angles_K1) * direction_KD + np.sin(angles_K1) * _directions(along_KD))


def on_great_circle(first_KD: NDArray[np.floating], second_KD: NDArray[np.floating], share: float) -> Vectors:
    """The memory that is `share` of the way from one to another, each vector on the great circle through its two ends.

    Lengths are interpolated. Opposite vectors, which have no shortest great circle, take the straight line.
    """
    first, second = first_KD.astype(np.float64), second_KD.astype(np.float64)
    angles_K = angles_between(first, second)
    lengths_K1 = [np.linalg.norm(end, axis=-1, keepdims=True) for end in (first, second)]
    wanted_K1 = (1 - share) * lengths_K1[0] + share * lengths_K1[1]
    circle_KD = wanted_K1 * _directions(turned(first, second, share * angles_K))
    has_circle_K1 = ((angles_K < pi - 1e-6) & (lengths_K1[0] * lengths_K1[1] > 0)[:, 0])[:, None]
    return np.where(has_circle_K1, circle_KD, (1 - share) * first + share * second)


def cap_bits(angle: float, width: int) -> float:
    """log2 of the area of the whole sphere over that of a cap: the bits that name one of so many caps.

    Args:
        angle: Angle in radians between the centre of the cap and its rim, above 0 and at most pi.
        width: Dimensions of the space around the sphere, at least 2.

    Source: Li, "Concise Formulas for the Area and Volume of a Hyperspherical Cap", Asian Journal of Mathematics and
        Statistics 4 (2011): the area is proportional to the integral of sin^(width - 2) from 0 to the angle.
    """
    sines = np.sin(angle * (CAP_NODES + 1) / 2)
    # In logarithms: the area of a small cap in 576 dimensions is below the least number of float64.
    cap = np.logaddexp.reduce((width - 2) * np.log(sines) + np.log(CAP_WEIGHTS * angle / 2))
    whole = log(pi) / 2 + lgamma((width - 1) / 2) - lgamma(width / 2)
    return float(whole - cap) / log(2)


def _directions(vectors_KD: NDArray[np.floating]) -> Vectors:
    """The vectors scaled to length 1; zeros stay zeros."""
    exact_KD = vectors_KD.astype(np.float64)
    lengths_K1 = np.linalg.norm(exact_KD, axis=-1, keepdims=True)
    return exact_KD / np.where(lengths_K1 > 0, lengths_K1, 1)
