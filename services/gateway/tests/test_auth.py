"""Tokens, verified and issued, against whatever a hostile bearer may send (AU1)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from roundtable.common.config import ConfigError
from roundtable.common.schema.basics import ROLES, is_room
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.session import Claims
from roundtable.gateway.auth import LEEWAY_S, MAX_TOKEN, Authenticator, Key, has_control, header_of

pytestmark = pytest.mark.rule("AU1")

SECRET = "a-secret-for-tests-of-more-than-32-bytes"
NOW = 1_800_000_000
GOOD: dict[str, Any] = {"sub": "u1", "name": "Ann", "exp": NOW + 600, "room": "den", "role": "gm"}

RSA_KEY = rsa.generate_private_key(65_537, 2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


class Keys:
    """A `KeySource` of three keys, one of each kind."""

    def __init__(self) -> None:
        self.keys = {
            kid: _key(kid, algorithm, private)
            for kid, algorithm, private in (
                ("r", "RS256", RSA_KEY),
                ("e", "ES256", EC_KEY),
                ("d", "EdDSA", ED_KEY),
            )
        }

    def find(self, kid: str | None) -> Key | None:
        return None if kid is None else self.keys.get(kid)


def _key(kid: str, algorithm: str, private: Any) -> Key:
    checker = jwt.get_algorithm_by_name(algorithm)
    return Key(
        kid, algorithm, lambda signed, signature: checker.verify(signed, private.public_key(), signature)
    )


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(
    payload: Any = GOOD, header: Any = None, *, secret: bytes = SECRET.encode(), signature: str | None = None
) -> str:
    """A token by hand, as no library would make it; `payload` and `header` may be any JSON or raw bytes."""
    parts = [
        b64(part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode())
        for part in ({"alg": "HS256"} if header is None else header, payload)
    ]
    signed = ".".join(parts)
    own = b64(hmac.digest(secret, signed.encode(), hashlib.sha256))
    return f"{signed}.{own if signature is None else signature}"


def by_secret(**options: Any) -> Authenticator:
    return Authenticator(
        SECRET, None, options.pop("issuer", None), options.pop("audience", None), lambda: NOW, **options
    )


def by_keys() -> Authenticator:
    return Authenticator(None, Keys(), None, None, lambda: NOW)


def refusal(token: str, authenticator: Authenticator | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        (authenticator or by_secret()).verify(token)
    assert token not in caught.value.message
    return caught.value


def said_wrong(changes: dict[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """The text of the refusal of a token with those claims."""
    claims = {name: value for name, value in {**GOOD, **changes}.items() if name not in without}
    refused = refusal(forged(claims))
    assert refused.reason == "token_invalid"
    return refused.message


def test_a_token_by_the_secret_says_who_its_bearer_is() -> None:
    token = jwt.encode({**GOOD, "iat": NOW - 60, "sid": "s1", "jti": "j1"}, SECRET, "HS256")
    assert by_secret().verify(token) == Claims(
        "u1", "Ann", {"den": "gm"}, (NOW + 600) * 1_000, "s1", "den", 660_000.0
    )


@pytest.mark.parametrize(
    ("kid", "algorithm", "private"), [("r", "RS256", RSA_KEY), ("e", "ES256", EC_KEY), ("d", "EdDSA", ED_KEY)]
)
def test_a_token_by_a_key_of_the_jwks_is_good_and_with_a_changed_byte_it_is_not(
    kid: str, algorithm: str, private: Any
) -> None:
    token = jwt.encode(GOOD, private, algorithm, headers={"kid": kid})
    assert by_keys().verify(token).user_id == "u1"
    head, body, signature = token.split(".")
    other = b64(json.dumps({**GOOD, "role": "player"}).encode())
    assert refusal(f"{head}.{other}.{signature}", by_keys()).reason == "token_invalid"
    flipped = ("B" if signature[4] != "B" else "C").join((signature[:4], signature[5:]))
    assert "signature" in refusal(f"{head}.{body}.{flipped}", by_keys()).message


def test_with_secret_and_keys_both_each_token_is_checked_by_its_own() -> None:
    both = Authenticator(SECRET, Keys(), None, None, lambda: NOW)
    assert both.verify(forged()).user_id == "u1"
    assert both.verify(jwt.encode(GOOD, ED_KEY, "EdDSA", headers={"kid": "d"})).user_id == "u1"
    assert "alg" in refusal(forged(header={"alg": "HS256", "kid": "d"}), both).message
    assert "kid" in refusal(forged(header={"alg": "HS256", "kid": "?"}), both).message
    assert "kid" in refusal(jwt.encode(GOOD, ED_KEY, "EdDSA"), both).message


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "", "HS384", "HS512", "RS256", "ES256", "EdDSA"])
def test_the_tokens_header_never_chooses_the_algorithm(alg: str) -> None:
    assert "alg" in refusal(forged(header={"alg": alg})).message
    assert refusal(forged(header={"alg": alg}).rpartition(".")[0] + ".").reason == "token_invalid"


def test_a_public_key_is_never_a_secret() -> None:
    for kid, private in (("r", RSA_KEY), ("e", EC_KEY), ("d", ED_KEY)):
        public = private.public_key()
        raw = (
            (Encoding.Raw, PublicFormat.Raw)
            if kid == "d"
            else (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        for form in ((Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), raw):
            token = forged(header={"alg": "HS256", "kid": kid}, secret=public.public_bytes(*form))
            assert "alg" in refusal(token, by_keys()).message


def test_a_key_is_good_for_its_own_algorithm_alone() -> None:
    assert "alg" in refusal(jwt.encode(GOOD, RSA_KEY, "RS512", headers={"kid": "r"}), by_keys()).message
    assert "alg" in refusal(jwt.encode(GOOD, RSA_KEY, "PS256", headers={"kid": "r"}), by_keys()).message
    assert "alg" in refusal(jwt.encode(GOOD, EC_KEY, "ES256", headers={"kid": "r"}), by_keys()).message


def test_a_token_by_no_key_of_ours_is_refused() -> None:
    stranger = ed25519.Ed25519PrivateKey.generate()
    assert (
        "signature" in refusal(jwt.encode(GOOD, stranger, "EdDSA", headers={"kid": "d"}), by_keys()).message
    )
    assert "kid" in refusal(jwt.encode(GOOD, ED_KEY, "EdDSA", headers={"kid": "x"}), by_keys()).message
    assert "kid" in refusal(jwt.encode(GOOD, ED_KEY, "EdDSA"), by_keys()).message
    assert "signature" in refusal(forged(secret=b"another secret of more than 32 bytes..")).message


def test_headers_that_change_what_is_signed_are_refused() -> None:
    for header in (
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "crit": ["b64"], "b64": False},
    ):
        assert "crit" in refusal(forged(header=header)).message
    for value in (False, 0, None, "true"):
        assert "b64" in refusal(forged(header={"alg": "HS256", "b64": value})).message
    embedded = {
        "alg": "HS256",
        "jwk": {"kty": "oct", "k": b64(b"mine")},
        "jku": "https://evil.example/",
        "x5u": "x",
    }
    assert "signature" in refusal(forged(header=embedded, secret=b"mine")).message


@pytest.mark.parametrize(
    "header", [[], "HS256", {}, {"alg": 1}, {"alg": "HS256", "kid": 7}, b"{", b"\xff", b"[" * 9_000]
)
def test_a_header_that_is_not_one_is_refused(header: Any) -> None:
    assert "header" in refusal(forged(header=header)).message


@pytest.mark.parametrize(
    "payload", [[], "x", 1, None, b"", b"{", b"\xff\xfe", b'{"sub":"\\ud800"}', b"[" * 9_000]
)
def test_a_payload_that_is_not_claims_is_refused(payload: Any) -> None:
    assert refusal(forged(payload)).reason == "token_invalid"


@pytest.mark.parametrize(
    "token",
    [
        "", ".", "..", "...", "a.b", "a.b.c.d", "a.b.c.d.e", " ", "\0", "ä.ö.ü", "a.b.c\n", "\ud800.a.b",
        forged() + " ", forged() + "=", "=" + forged(), forged().replace(".", ",", 1), forged() + ".", "Bearer " + forged(),
    ],
)  # fmt: skip
def test_what_is_not_three_parts_of_base64url_is_refused(token: str) -> None:
    with pytest.raises(Refusal) as caught:
        by_secret().verify(token)
    assert caught.value.reason == "token_invalid"


def test_base64_has_one_text_for_each_value() -> None:
    head, body, signature = forged().split(".")
    last = signature[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = alphabet[alphabet.index(last) ^ 1]
    assert "base64url" in refusal(f"{head}.{body}.{signature[:-1]}{same_bytes}").message
    assert "base64url" in refusal(f"{head}.{body}.{signature}AA").message


def test_a_token_over_16_kb_is_refused_before_it_is_read() -> None:
    long = forged({**GOOD, "more": "x" * MAX_TOKEN})
    began = time.process_time()
    assert "longer" in refusal(long).message
    assert "longer" in refusal("x" * 50_000_000).message
    assert time.process_time() - began < 0.5
    assert by_secret().verify(forged({**GOOD, "more": "x" * 8_000})).user_id == "u1"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sub": ""}, "sub"), ({"sub": "x" * 65}, "sub"), ({"sub": "a\nb"}, "sub"), ({"sub": "\x00"}, "sub"),
        ({"sub": "a\x85"}, "sub"), ({"sub": 1}, "sub"), ({"sub": None}, "sub"), ({"sub": ["u"]}, "sub"),
        ({"exp": "9"}, "exp"), ({"exp": None}, "exp"), ({"exp": True}, "exp"), ({"exp": NOW * 1_000}, "exp"),
        ({"exp": -1}, "exp"), ({"exp": 10**30}, "exp"), ({"exp": []}, "exp"),
        ({"nbf": NOW + LEEWAY_S + 1}, "nbf"), ({"nbf": "x"}, "nbf"), ({"iat": NOW + LEEWAY_S + 1}, "iat"),
        ({"iat": {}}, "iat"), ({"iat": -5}, "iat"),
        ({"name": 5}, "name"), ({"name": ["x"]}, "name"),
        ({"room": "a b"}, "room"), ({"room": ""}, "room"), ({"room": "x" * 65}, "room"), ({"room": "den\n"}, "room"),
        ({"room": "**"}, "room"), ({"room": 1}, "room"),
        ({"role": "GM"}, "role"), ({"role": ""}, "role"), ({"role": "owner"}, "role"), ({"role": 1}, "role"),
        ({"role": None}, "role"),
        ({"rooms": []}, "rooms"), ({"rooms": {"a b": "gm"}}, "rooms"), ({"rooms": {"den": "boss"}}, "rooms.den"),
        ({"rooms": {"den": None}}, "rooms"), ({"rooms": {"": "gm"}}, "rooms"), ({"rooms": "*"}, "rooms"),
        ({"rooms": {f"{n:x}": "gm" for n in range(1_001)}}, "rooms"), ({"rooms": {"den": "gm"}, "room": "?"}, "room"),
        ({"sid": 5}, "sid"), ({"sid": "x" * 257}, "sid"), ({"sid": "a\tb"}, "sid"), ({"jti": "x" * 257}, "jti"),
        ({"jti": 9}, "jti"), ({"aud": 5}, "aud"), ({"aud": [5]}, "aud"), ({"iss": 5}, "iss"),
    ],
)  # fmt: skip
def test_a_refused_claim_is_named(changes: dict[str, Any], word: str) -> None:
    assert word in said_wrong(changes)


@pytest.mark.parametrize("claim", ["sub", "exp", "room", "role"])
def test_a_claim_that_is_missing_is_named(claim: str) -> None:
    assert claim in said_wrong({}, without=(claim,))


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity", "-Infinity", "1" * 400])
def test_an_end_that_is_no_finite_number_is_refused(number: str) -> None:
    payload = json.dumps({**GOOD, "exp": 0}).replace('"exp": 0', f'"exp": {number}').encode()
    assert refusal(forged(payload)).reason == "token_invalid"


def test_thirty_seconds_of_leeway_hold_for_exp_nbf_and_iat() -> None:
    verify = by_secret().verify
    assert verify(forged({**GOOD, "exp": NOW - LEEWAY_S + 1})).expires_at == (NOW - LEEWAY_S + 1) * 1_000
    assert verify(forged({**GOOD, "nbf": NOW + LEEWAY_S, "iat": NOW + LEEWAY_S})).user_id == "u1"
    assert refusal(forged({**GOOD, "exp": NOW - LEEWAY_S})).reason == "token_expired"


def test_expired_is_said_only_of_a_token_that_was_good_once() -> None:
    past = {**GOOD, "exp": NOW - 3_600}
    assert refusal(forged(past)).reason == "token_expired"
    assert refusal(forged(past, secret=b"x" * 40)).reason == "token_invalid"
    assert refusal(forged({**past, "iss": "other"}), by_secret(issuer="us")).reason == "token_invalid"


def test_issuer_and_audience_are_checked_where_they_are_configured() -> None:
    strict = by_secret(issuer="https://id.example", audience="roundtable")
    named = {**GOOD, "iss": "https://id.example", "aud": ["other", "roundtable"]}
    assert strict.verify(forged(named)).user_id == "u1"
    assert strict.verify(forged({**named, "aud": "roundtable"})).user_id == "u1"
    for changes, word in (
        ({"iss": "https://id.example/"}, "iss"), ({"iss": None}, "iss"), ({"aud": "other"}, "aud"),
        ({"aud": []}, "aud"), ({"aud": None}, "aud"), ({"aud": "roundtable2"}, "aud"),
    ):  # fmt: skip
        assert word in refusal(forged({**named, **changes}), strict).message
    assert by_secret().verify(forged({**named, "aud": "anybody"})).user_id == "u1"


@pytest.mark.rule("CO2")
def test_rooms_come_from_room_and_role_or_from_the_map() -> None:
    verify = by_secret().verify
    assert verify(forged({**GOOD, "room": "*"})).default_room is None
    assert verify(forged({**GOOD, "room": "*"})).role_in("anything") == "gm"
    several = verify(forged({**GOOD, "rooms": {"a": "player", "*": "spectator"}, "room": "a", "role": "gm"}))
    assert (several.role_in("a"), several.role_in("b"), several.default_room) == ("player", "spectator", "a")
    assert verify(forged({**GOOD, "room": None, "role": None, "rooms": {}})).role_in("den") is None


def test_a_name_is_cleaned_and_falls_back_to_the_user_id() -> None:
    verify = by_secret().verify
    assert verify(forged({**GOOD, "name": " Ann\x00 \n of\tCleves "})).username == "Ann of Cleves"
    for name in (None, "", " \n\x07"):
        assert verify(forged({**GOOD, "name": name})).username == "u1"
    assert len(verify(forged({**GOOD, "name": "n" * 500})).username) == 64


def test_the_session_is_sid_or_else_jti() -> None:
    verify = by_secret().verify
    assert verify(forged({**GOOD, "sid": "s", "jti": "j"})).session == "s"
    assert verify(forged({**GOOD, "sid": "", "jti": "j"})).session == "j"
    assert verify(forged()).session == ""


@pytest.mark.rule("AU3")
def test_a_tokens_life_is_counted_from_its_issue_or_else_from_its_coming() -> None:
    verify = by_secret().verify
    assert verify(forged({**GOOD, "iat": NOW - 300})).life_ms == 900_000
    assert verify(forged(GOOD)).life_ms == 600_000
    assert verify(forged({**GOOD, "iat": NOW, "exp": NOW - 5})).life_ms == 0


@pytest.mark.parametrize(
    ("rooms", "first"),
    [
        ({"den": "gm"}, "den"),
        ({"*": "player"}, None),
        ({"*": "gm"}, "den"),
        ({"a": "gm", "b": "player"}, "b"),
        ({"a": "gm"}, None),
        ({}, None),
    ],
)
def test_what_we_issue_we_verify(rooms: dict[str, Any], first: str | None) -> None:
    ours = by_secret(issuer="us", audience="them")
    token, expires_at = ours.issue(Claims("u1", "Ann", rooms, None, "s1", first), 90.5)
    assert ours.verify(token) == Claims("u1", "Ann", rooms, expires_at, "s1", first, 91_000.0)
    assert expires_at == (NOW + 91) * 1_000
    read = jwt.decode(token, SECRET, ["HS256"], issuer="us", audience="them", options={"verify_iat": False})
    assert read["sub"] == "u1"
    assert header_of(token).alg == "HS256"


def test_without_a_secret_nothing_is_issued() -> None:
    assert not by_keys().can_issue
    with pytest.raises(ConfigError, match="ROUNDTABLE_JWT_SECRET"):
        by_keys().issue(Claims("u", "u", {}, None, ""), 60)


def test_a_short_secret_is_for_development_only() -> None:
    with pytest.raises(ConfigError, match=r"ROUNDTABLE_JWT_SECRET.*32 bytes"):
        Authenticator("x" * 31, None)
    short = Authenticator("dev", None, development=True)
    assert short.verify(short.issue(Claims("u", "u", {"*": "gm"}, None, ""), 60)[0]).user_id == "u"
    assert Authenticator("ü" * 16, None).can_issue


def test_a_configuration_that_can_check_nothing_or_holds_a_public_key_as_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="ROUNDTABLE_JWKS"):
        Authenticator("", None)
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for secret in (pem, json.dumps({"kty": "oct", "k": b64(b"x" * 32)})):
        with pytest.raises(ConfigError, match="ROUNDTABLE_JWT_SECRET"):
            Authenticator(secret, None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["sub", "exp", "name", "room", "role", "rooms", "nbf", "iat", "iss", "aud", "sid", "jti", "x"]
)


@given(st.dictionaries(names, json_values, max_size=6), st.sets(names, max_size=2))
def test_any_claims_give_a_sound_identity_or_a_refusal(changes: dict[str, Any], without: set[str]) -> None:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if name not in without}
    try:
        said = by_secret().verify(forged(claims))
    except Refusal as refused:
        assert refused.reason in ("token_invalid", "token_expired")  # noqa: PT017
        return
    assert 1 <= len(said.user_id) <= 64
    assert not has_control(said.user_id)
    assert 1 <= len(said.username) <= 64
    assert len(said.session) <= 256
    assert all((room == "*" or is_room(room)) and role in ROLES for room, role in said.rooms.items())
    assert said.default_room is None or is_room(said.default_room)
    assert said.expires_at is not None
    assert said.expires_at > (NOW - LEEWAY_S) * 1_000


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,60}(\.[\w-]{0,60}){0,4}", fullmatch=True))
def test_any_text_is_refused_with_a_reason(token: str) -> None:
    for authenticator in (by_secret(), by_keys()):
        with pytest.raises(Refusal) as caught:
            authenticator.verify(token)
        assert caught.value.reason == "token_invalid"


@given(json_values, json_values, st.binary(max_size=80))
def test_any_header_payload_and_signature_are_refused_with_a_reason(
    header: Any, payload: Any, signature: bytes
) -> None:
    token = forged(payload, header, signature=b64(signature))
    for authenticator in (by_secret(), by_keys()):
        with pytest.raises(Refusal) as caught:
            authenticator.verify(token)
        assert caught.value.reason == "token_invalid"


@given(
    st.sampled_from(["r", "e", "d"]), st.sampled_from(["RS256", "ES256", "EdDSA"]), st.binary(max_size=300)
)
def test_any_signature_under_any_key_is_refused(kid: str, alg: str, signature: bytes) -> None:
    token = forged(GOOD, {"alg": alg, "kid": kid}, signature=b64(signature))
    assert refusal(token, by_keys()).reason == "token_invalid"
