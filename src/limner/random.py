"""Counter-based noise: a pure function of (seed, sample, stream, step).

The generator is Philox4x32-10 (Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*), written in
integer tensor operations, so that it runs vectorised on any device and a sample's noise never depends on the batch,
the rank or the device it is drawn on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10 of four broadcastable int64 tensors that hold unsigned 32-bit words, under two 32-bit key words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The low 64 bits of the product are right in two's complement. Low words keep what lies above their 32 bits:
        # they are masked with what they are mixed into.
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c2 = _mixed(p1, c1, k0), _mixed(p0, c3, k1)
        c1, c3 = p1, p0
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1 & _MASK, c2, c3 & _MASK


def _mixed(product: Tensor, word: Tensor, key: int) -> Tensor:
    """The product's high word, exclusive or a word and a key."""
    high = (product >> 32) ^ word
    return high.bitwise_xor_(key).bitwise_and_(_MASK)


def _word(seed: int, stream: str) -> int:
    """64 bits from all 64 bits of the seed and the stream's name."""
    digest = hashlib.blake2b(stream.encode(), key=(seed % 2**64).to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@lru_cache(maxsize=1024)
def _key(seed: int, stream: str) -> tuple[int, int]:
    word = _word(seed, stream)
    return word & _MASK, word >> 32


def _words(seed: int, samples: Tensor, stream: str, step: int | Tensor, count: int) -> tuple[Tensor, ...]:
    """Four (N, ceil(count / 4)) int64 tensors of unsigned 32-bit words."""
    device = samples.device
    sample = samples.to(torch.int64).reshape(-1, 1)
    block = torch.arange((count + 3) // 4, dtype=torch.int64, device=device).reshape(1, -1)
    if isinstance(step, Tensor):
        at_step = step.to(device=device, dtype=torch.int64).reshape(-1, 1)
    else:
        at_step = torch.full((1, 1), step, dtype=torch.int64, device=device)
    return philox((block, at_step & _MASK, sample & _MASK, (sample >> 32) & _MASK), _key(seed, stream))


def bits(seed: int, samples: Tensor, stream: str, step: int | Tensor = 0, *, count: int = 1) -> Tensor:
    """Unsigned 32-bit words as int64, (N, count)."""
    words = torch.stack(_words(seed, samples, stream, step, count), dim=-1)
    return words.flatten(1)[:, :count]


def uniform(seed: int, samples: Tensor, stream: str, step: int | Tensor = 0, *, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform float32 in the open interval (0, 1), of shape (N, *shape)."""
    words = bits(seed, samples, stream, step, count=math.prod(shape))
    # 23 bits and a half: the largest float32 below one is 1 - 2**-24, so 1.0 itself cannot come out.
    return ((words >> 9).to(torch.float32) + 0.5).mul_(2.0**-23).reshape(len(samples), *shape)


def normal(seed: int, samples: Tensor, stream: str, step: int | Tensor = 0, *, shape: tuple[int, ...] = ()) -> Tensor:
    """Standard normal float32 of shape (N, *shape), by Box and Muller's transform.

    Args:
        seed: any integer; its low 64 bits count.
        samples: (N,) int64, the global index of each sample.
        stream: what the noise is for ("init", "churn", "denoise/noise"); streams are independent of each other.
        step: which draw of that stream, one for all or one a sample.
        shape: of one sample.
    """
    count = math.prod(shape)
    u0, u1, u2, u3 = _words(seed, samples, stream, step, count)
    out = torch.empty(len(samples), u0.shape[1], 4, dtype=torch.float32, device=samples.device)
    for i, (a, b) in enumerate(((u0, u1), (u2, u3))):
        radius = ((a.to(torch.float32) + 0.5) * 2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = b.to(torch.float32) * (2.0 * math.pi * 2.0**-32)
        out[:, :, 2 * i] = radius * angle.cos()
        out[:, :, 2 * i + 1] = radius * angle.sin()
    return out.flatten(1)[:, :count].reshape(len(samples), *shape)


@contextmanager
def rewound() -> Iterator[None]:
    """The default generators stand afterwards where they stood before."""
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)


@contextmanager
def scoped(seed: int, stream: str, step: int = 0) -> Iterator[None]:
    """The default generators, keyed, for operations that take no generator (dropout, initial weights).

    Their state before is restored afterwards, so that nobody else's numbers change.
    """
    key = _word(seed, f"scoped/{stream}/{step}") >> 1
    with rewound():
        torch.default_generator.manual_seed(key)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed(key)
        yield
