"""Real random values, as the random provider makes them."""

from __future__ import annotations

import base64
import math
import random
import secrets
import time
import uuid
from collections.abc import Sequence
from typing import Any

from sandbox.twins.outputs import Compute, Context, Refusal

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = LOWER.upper()
DIGITS = "0123456789"
SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
ADVERBS = "barely boldly calmly daily easily evenly firmly freely gently gladly kindly nearly openly".split()
ADJECTIVES = (
    "able alert apt bold brave bright calm clean clever cool eager fair fast fine fit glad keen".split()
)
ANIMALS = "ant bat bear bee bison boar cat cod crab crane deer dove duck eel elk finch fox goat hare".split()


def identify(context: Context) -> str:
    """The id is the value or, where that is secret, the word "none"; set by COMPUTE."""
    return context.id


def _text(context: Context) -> str:
    want = context.inputs
    numeric = want.get("numeric", want.get("number", True))
    pools = {
        "minLower": LOWER if want.get("lower", True) else "",
        "minUpper": UPPER if want.get("upper", True) else "",
        "minNumeric": DIGITS if numeric else "",
        "minSpecial": (want.get("overrideSpecial") or SPECIAL) if want.get("special", True) else "",
    }
    length = int(want["length"])
    least = sum(int(want.get(key, 0)) for key in pools)
    if least > length:
        raise Refusal(
            f"The number of characters to generate ({length}) must be at least the sum of "
            f"min_upper, min_lower, min_numeric and min_special ({least})"
        )
    everything = "".join(pools.values())
    # A minimum holds also for a kind that is otherwise switched off, as in the real provider.
    full = {"minLower": LOWER, "minUpper": UPPER, "minNumeric": DIGITS}
    chars = [
        secrets.choice(pool or full.get(key, want.get("overrideSpecial") or SPECIAL))
        for key, pool in pools.items()
        for _ in range(int(want.get(key, 0)))
    ]
    if len(chars) < length and not everything:
        raise Refusal("at least one of lower, upper, numeric and special must be true")
    chars += [secrets.choice(everything) for _ in range(length - len(chars))]
    secrets.SystemRandom().shuffle(chars)
    context.give(
        lower=True, upper=True, special=True, numeric=numeric, number=numeric,
        minLower=0, minUpper=0, minNumeric=0, minSpecial=0,
    )  # fmt: skip
    return "".join(chars)


def _string(context: Context) -> None:
    context.give(result=_text(context))
    context.id = context.outputs["result"]


def _password(context: Context) -> None:
    import bcrypt

    context.give(result=_text(context))
    # The real provider hashes the first 72 bytes too: bcrypt reads no more.
    secret = context.outputs["result"].encode()[:72]
    context.give(bcryptHash=bcrypt.hashpw(secret, bcrypt.gensalt(10, prefix=b"2a")).decode())
    context.id = "none"


def _bytes(context: Context) -> None:
    value = secrets.token_bytes(int(context.inputs["length"]))
    context.give(base64=base64.b64encode(value).decode(), hex=value.hex())
    context.id = "none"


def _id(context: Context) -> None:
    value = secrets.token_bytes(int(context.inputs["byteLength"]))
    prefix = context.inputs.get("prefix", "")
    url = base64.urlsafe_b64encode(value).decode().rstrip("=")
    context.give(
        b64Url=prefix + url,
        b64Std=prefix + base64.b64encode(value).decode(),
        hex=prefix + value.hex(),
        dec=prefix + str(int.from_bytes(value, "big")),
    )
    context.id = url


def _seeded(context: Context) -> random.Random:
    seed = context.inputs.get("seed")
    return random.Random(seed) if seed else secrets.SystemRandom()  # noqa: S311  (a seed asks for just that)


def _integer(context: Context) -> None:
    low, high = int(context.inputs["min"]), int(context.inputs["max"])
    if low > high:
        raise Refusal("The minimum (min) value needs to be smaller than or equal to maximum (max) value.")
    context.give(result=_seeded(context).randint(low, high))
    context.id = str(context.outputs["result"])


def _pet(context: Context) -> None:
    length = int(context.inputs.get("length", 2))
    separator = context.inputs.get("separator", "-")
    words: list[str] = [secrets.choice(ADVERBS) for _ in range(max(0, length - 2))]
    words += [secrets.choice(ADJECTIVES)] if length > 1 else []
    words.append(secrets.choice(ANIMALS))
    prefix = context.inputs.get("prefix")
    context.give(length=length, separator=separator)
    context.id = separator.join([*([prefix] if prefix else []), *words])


def _shuffle(context: Context) -> None:
    items: Sequence[Any] = context.inputs["inputs"]
    count = int(context.inputs.get("resultCount", len(items)))
    chance = _seeded(context)
    results: list[Any] = []
    for _ in range(math.ceil(count / len(items)) if items else 0):
        results += chance.sample(items, len(items))
    context.give(results=results[:count])
    context.id = "-"


def _uuid(context: Context) -> None:
    context.give(result=str(uuid.uuid4()))
    context.id = context.outputs["result"]


def _uuid7(context: Context) -> None:
    stamp = int(time.time() * 1000) << 80
    value = stamp | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    context.give(result=str(uuid.UUID(int=value)))
    context.id = context.outputs["result"]


COMPUTE: dict[str, Compute] = {
    "random:index/randomBytes:RandomBytes": _bytes,
    "random:index/randomId:RandomId": _id,
    "random:index/randomInteger:RandomInteger": _integer,
    "random:index/randomPassword:RandomPassword": _password,
    "random:index/randomPet:RandomPet": _pet,
    "random:index/randomShuffle:RandomShuffle": _shuffle,
    "random:index/randomString:RandomString": _string,
    "random:index/randomUuid:RandomUuid": _uuid,
    "random:index/randomUuid4:RandomUuid4": _uuid,
    "random:index/randomUuid7:RandomUuid7": _uuid7,
}
