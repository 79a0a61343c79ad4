#!/usr/bin/env python3
"""Prints ed25519.json: signatures of Ed25519 that verifiers disagree about, and what Writ says of each.

The arithmetic is that of RFC 8032, section 6, so that nothing here shares code with what it tests. The classes follow
RFC 8032 (section 7.1), "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020; its twelve cases) and the lists
of edge cases that Project Wycheproof tests. Nothing is random: ./ed25519.py > ed25519.json changes nothing.

`expected` is `valid`, `invalid`, or `refused key`; `lax` says whether the equation [S]B = R + [k]A holds, without a
cofactor and without a look at the order of A and R: what a verifier without our strictness would accept.
"""

import hashlib
import json

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P)
    return x % P, y % P


def times(scalar, point):
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def recover(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return (P - x if x & 1 != sign else x) % P, y % P


def encode(point):
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data):
    """Leniently: y may be too large, and zero may have a sign."""
    number = int.from_bytes(data, "little")
    return recover((number & (2**255 - 1)) % P, number >> 255)


B = recover(4 * pow(5, P - 2, P) % P, 0)


def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def scalar(data):
    return data.to_bytes(32, "little")


def lax(key, message, signature):
    if len(signature) != 64:
        return False
    a, r, s = decode(key), decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = number(signature[:32], key, message) % L
    return times(s, B) == add(r, times(k, a))


def expand(secret):
    digest = hashlib.sha512(secret).digest()
    a = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
    return a, digest[32:]


def sign(secret, message):
    a, prefix = expand(secret)
    key = encode(times(a, B))
    r = number(prefix, message) % L
    commitment = encode(times(r, B))
    k = number(commitment, key, message)
    return key, commitment + scalar((r + k * a) % L)


# A point of order 8, and its multiples: all points of small order.
y, order8 = 2, None
while order8 is None:
    point = recover(y, 0)
    if point is not None:
        point = times(L, point)
        order8 = point if times(4, point) != (0, 1) else None
    y += 1
TORSION = [times(n, order8) for n in range(8)]

vectors = []


def vector(name, key, message, signature, expected):
    vectors.append({
        "name": name,
        "key": key.hex(),
        "message": message.hex(),
        "signature": signature.hex(),
        "expected": expected,
        "lax": lax(key, message, signature),
    })


# RFC 8032, section 7.1: the secret, the public key that must come of it, the message.
RFC = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", b""),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", b"\x72"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", b"\xaf\x82"),
    ("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
     "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf", hashlib.sha512(b"abc").digest()),
]
for number_of, (secret, public, message) in enumerate(RFC, 1):
    key, signature = sign(bytes.fromhex(secret), message)
    assert key.hex() == public, key.hex()
    vector(f"RFC 8032 test {number_of}", key, message, signature, "valid")
assert vectors[0]["signature"].startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb88215")

# Wycheproof: what is wrong with one good signature.
secret, message = b"\x2a" * 32, b"writ"
key, good = sign(secret, message)
s = int.from_bytes(good[32:], "little")
vector("good", key, message, good, "valid")
for times_l in (1, 2, 3, 7, 14):
    vector(f"S + {times_l} L", key, message, good[:32] + scalar(s + times_l * L), "invalid")
for name, other in [("L", L), ("L - 1", L - 1), ("0", 0), ("1", 1), ("2^252", 2**252), ("2^255", 2**255),
                    ("2^256 - 1", 2**256 - 1), ("-S", L - s)]:
    vector(f"S = {name}", key, message, good[:32] + scalar(other), "invalid")
for bit in list(range(0, 512, 16)) + [251, 252, 253, 254, 255, 507, 508, 509, 510, 511]:
    changed = bytearray(good)
    changed[bit // 8] ^= 1 << bit % 8
    vector(f"bit {bit} flipped", key, message, bytes(changed), "invalid")
for length in (0, 1, 31, 32, 33, 63):
    vector(f"cut to {length} bytes", key, message, good[:length], "invalid")
vector("a byte more", key, message, good + b"\0", "invalid")
vector("R and S exchanged", key, message, good[32:] + good[:32], "invalid")
vector("all zero", key, message, bytes(64), "invalid")
vector("all ones", key, message, b"\xff" * 64, "invalid")
vector("another message", key, message + b"\0", good, "invalid")
vector("another key", sign(b"\x2b" * 32, message)[0], message, good, "invalid")
for n, point in enumerate(TORSION):
    vector(f"R of small order {n}, S = 0", key, message, encode(point) + bytes(32), "invalid")
for y in range(19):
    for sign_bit in (0, 1):
        if recover(y, 0) is not None:
            r = (y + P | sign_bit << 255).to_bytes(32, "little")
            vector(f"R with y = p + {y}, sign {sign_bit}", key, message, r + good[32:], "invalid")

# Keys of small order, in every spelling: whoever signs nothing at all has signed for them.
spellings = {encode(point) for point in TORSION}
for point in TORSION:
    x, y = point
    for sign_bit in (0, 1):
        for other in (y, y + P):
            data = (other | sign_bit << 255)
            if other < 2**255 and (x == 0 or x & 1 == sign_bit):
                spellings.add(data.to_bytes(32, "little"))
for weak in sorted(spellings):
    for n in range(64):
        message = b"anything %d" % n
        forged = encode((0, 1)) + bytes(32)
        if lax(weak, message, forged):
            break
    vector("A of small order", weak, message, forged, "refused key")
for y in range(19):
    for sign_bit in (0, 1):
        point = recover(y, sign_bit)
        a = (y + P | sign_bit << 255).to_bytes(32, "little")
        if point is not None and a not in spellings:
            vector(f"A with y = p + {y}, sign {sign_bit}", a, b"writ", good, "refused key")

# The twelve cases of "Taming the many EdDSAs", table 5, with keys of ours. The equation is made to hold or not by the
# choice of the message, whose hash decides how much of A's torsion counts.
a, _ = expand(b"\x2c" * 32)
A = times(a, B)


def case(name, of_a, of_r, holds, expected, a=a, r=number(b"r") % L):
    """A = aB + of_a, R = rB + of_r, and S as if neither had a part of small order."""
    key, commitment = encode(add(times(a, B), of_a)), encode(add(times(r, B), of_r))
    for n in range(1000):
        message = b"case %d" % n
        k = number(commitment, key, message) % L
        rest = add(of_r, times(k, of_a))
        if (rest == (0, 1)) == holds:
            signature = commitment + scalar((r + k * a) % L)
            assert lax(key, message, signature) == holds
            return vector(name, key, message, signature, expected)
    raise AssertionError(name)


T, NONE = TORSION[1], (0, 1)
case("case 0: S = 0, A and R of small order", T, TORSION[3], True, "refused key", a=0, r=0)
case("case 1: A of small order, R of mixed order", T, TORSION[5], True, "refused key", a=0)
case("case 2: A of mixed order, R of small order", T, TORSION[2], True, "invalid", r=0)
case("case 3: A and R of mixed order, the equation holds", T, TORSION[6], True, "valid")
case("case 4: A and R of mixed order, it holds with the cofactor only", T, TORSION[6], False, "invalid")
case("case 5: A of mixed order, R of prime order, it holds with the cofactor only", T, NONE, False, "invalid")
case("A of mixed order, R of prime order, the equation holds", T, NONE, True, "valid")
case("A of prime order, R of mixed order, it holds with the cofactor only", NONE, T, False, "invalid")
key, good = sign(b"\x2d" * 32, b"case 6")
s = int.from_bytes(good[32:], "little")
vector("case 6: S just above L", key, b"case 6", good[:32] + scalar(s + L), "invalid")
vector("case 7: S far above L", key, b"case 6", good[:32] + scalar(s + 15 * L if s + 15 * L < 2**256 else s + 14 * L), "invalid")
# Cases 8 and 9: R is the identity in another spelling, hashed as it stands or as it should.
identity = (1 + P).to_bytes(32, "little")
for name, hashed in [("case 8: R not canonical, hashed as it stands", identity),
                     ("case 9: R not canonical, hashed in canonical form", encode((0, 1)))]:
    key, message = encode(A), b"case 8"
    k = number(hashed, key, message) % L
    vector(name, key, message, identity + scalar(k * a % L), "invalid")
# Cases 10 and 11: A of small order, not canonical, hashed as it stands or as it should.
for name, spelled in [("case 10: A not canonical, hashed as it stands", P), ("case 11: A not canonical", P | 1 << 255)]:
    weak, r = spelled.to_bytes(32, "little"), number(b"r") % L
    for n in range(1000):
        message, commitment = b"case 10 %d" % n, encode(times(r, B))
        if lax(weak, message, commitment + scalar(r)):
            break
    vector(name, weak, message, commitment + scalar(r), "refused key")

print("[\n" + ",\n".join(json.dumps(one) for one in vectors) + "\n]")
