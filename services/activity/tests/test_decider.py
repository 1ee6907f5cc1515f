"""What may be posted, what becomes of it, and who is told: command by command."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, UnsetType

from roundtable.activity import decider as module
from roundtable.activity.decider import DECIDER, Derive, Entry, Post, Posted, State, next_id
from roundtable.activity.service import ActivityDomain
from roundtable.common.schema.activity import ActivityType, Visibility
from roundtable.common.schema.basics import Role
from roundtable.common.schema.envelope import to_json
from roundtable.common.schema.errors import Refusal
from roundtable.common.schema.log import Audience, CommandMessage, StoredEvent
from roundtable.common.testing.scenario import Scenario

NOW = 1_760_000_000_000


def scenario() -> Scenario[State, Post | Derive, Posted]:
    return Scenario(DECIDER)


def post(
    text: str = "hi",
    user: str = "ada",
    role: Role = "player",
    at: int = NOW,
    to: tuple[str, ...] | UnsetType = UNSET,
) -> Post:
    return Post("chat_message", to_json({"text": text}), user, user.title(), role, at, to)


def joined(source: str, user: str = "ada", username: str = "Ada", at: int = NOW) -> Derive:
    return Derive(source, "user_joined", Raw(b"{}"), user, username, at)


def message(params: Any, user: str = "ada", role: Role = "player", id_: str = "r1") -> CommandMessage:
    return CommandMessage("activity.post", to_json(params), user, user.title(), role, id_)


class Domain(ActivityDomain):
    """With loaded dice: each shows its highest face."""

    def __init__(self) -> None:
        super().__init__(lambda sides: sides)

    def posts(self, params: Any, user: str = "ada", role: Role = "player") -> Posted:
        """What is stored of the post."""
        command = self.prepare(message(params, user, role), NOW)
        (fact,) = self.decider.decide(State(), command)
        return fact

    def stores(self, type_: str, data: Any, **more: Any) -> Any:
        return msgspec.json.decode(self.posts({"type": type_, "data": data, **more}, role="gm").activity.data)

    def refuses(self, params: Any, role: Role = "player") -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.prepare(message(params, role=role), NOW)
        return caught.value


@pytest.fixture
def domain() -> Domain:
    return Domain()


@pytest.mark.rule("AC1", "AC3")
def test_a_chat_message_is_posted_for_all() -> None:
    entry = Entry(next_id("", NOW), "chat_message", "ada", "Ada", to_json({"text": "hi"}), NOW)
    scenario().when(post("hi")).then(Posted(entry))
    assert ActivityDomain().record(Posted(entry)).audience is None


@pytest.mark.rule("EN5")
def test_every_activity_is_told_as_activity_post(domain: Domain) -> None:
    assert (
        domain.record(domain.posts({"type": "chat_message", "data": {"text": "x"}})).method == "activity.post"
    )
    (fact,) = DECIDER.decide(State(), joined("presence@e:1:0"))
    assert domain.record(fact).method == "activity.post"


@pytest.mark.rule("AU7")
@pytest.mark.parametrize("type_", ["chat_message", "dice_roll", "turn_changed", "map_updated", "note_edited"])
def test_spectators_post_nothing(domain: Domain, type_: ActivityType) -> None:
    assert domain.refuses({"type": type_, "data": {}}, role="spectator").reason == "forbidden"
    scenario().when(Post(type_, Raw(b"{}"), "eve", "Eve", "spectator", NOW)).then_refused(
        "forbidden", "Spectators"
    )


@pytest.mark.rule("AC8")
@pytest.mark.parametrize("type_", ["user_joined", "user_left"])
@pytest.mark.parametrize("role", ["player", "gm"])
def test_nobody_posts_joins_and_leaves(domain: Domain, type_: ActivityType, role: Role) -> None:
    assert domain.refuses({"type": type_, "data": {}}, role=role).reason == "forbidden"
    scenario().when(Post(type_, Raw(b"{}"), "ada", "Ada", role, NOW)).then_refused("forbidden", type_)


AUDIENCES: list[tuple[dict[str, Any], Audience | None]] = [
    (
        {"type": "chat_message", "data": {"text": "x"}, "to": ["bob", "cleo"]},
        Audience(("ada", "bob", "cleo")),
    ),
    ({"type": "chat_message", "data": {"text": "x"}, "to": ["ada", "bob", "bob"]}, Audience(("ada", "bob"))),
    ({"type": "dice_roll", "data": {"expression": "d20"}}, None),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "public"}, None),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "gm"}, Audience(("ada",), gm=True)),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "blind"}, Audience((), gm=True)),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "self"}, Audience(("ada",))),
]


@pytest.mark.rule("AC3", "AC5", "RS5")
@pytest.mark.parametrize(("params", "audience"), AUDIENCES)
def test_the_log_says_who_may_see_what(
    domain: Domain, params: dict[str, Any], audience: Audience | None
) -> None:
    assert domain.record(domain.posts(params)).audience == audience


@pytest.mark.rule("AC3")
def test_a_whisper_reaches_no_gm_who_was_not_named(domain: Domain) -> None:
    audience = domain.record(domain.posts(AUDIENCES[0][0])).audience
    assert audience is not None
    assert [who for who in ("ada", "bob", "cleo", "dan") if audience.admits(who, "gm")] == [
        "ada",
        "bob",
        "cleo",
    ]


@pytest.mark.rule("AC3", "AC5")
def test_those_who_may_see_it_are_told_that_it_is_hidden(domain: Domain) -> None:
    whisper = domain.record(domain.posts(AUDIENCES[0][0])).data
    roll = domain.record(domain.posts(AUDIENCES[4][0])).data
    public = domain.record(domain.posts(AUDIENCES[3][0])).data
    assert msgspec.json.decode(to_json(whisper))["to"] == ["bob", "cleo"]
    assert msgspec.json.decode(to_json(roll))["visibility"] == "gm"
    assert "visibility" not in msgspec.json.decode(to_json(public))


@pytest.mark.rule("AC4")
def test_a_roll_is_thrown_by_the_server(domain: Domain) -> None:
    assert domain.stores("dice_roll", {"expression": " 2d6+1 ", "label": "to\u0000 hit"}) == {
        "expression": "2d6+1",
        "label": "to hit",
        "total": 13,
        "text": "2d6 (6, 6) + 1 = 13",
        "dice": [{"sides": 6, "value": 6, "kept": True}] * 2,
    }
    assert "label" not in domain.stores("dice_roll", {"expression": "d4", "label": "\u0007"})


@pytest.mark.rule("AC6")
def test_a_wrong_expression_is_refused_by_its_path_and_column(domain: Domain) -> None:
    refusal = domain.refuses({"type": "dice_roll", "data": {"expression": "2d6+"}})
    assert refusal.reason == "invalid_data"
    assert refusal.message.startswith("Column 5 of the dice: ")
    assert refusal.message.endswith(" - at `params.data.expression`")


@pytest.mark.rule("AC5")
@pytest.mark.parametrize(
    ("visibility", "role", "told"),
    [
        ("blind", "player", {"expression", "label"}),
        ("blind", "gm", {"expression", "label", "total", "text", "dice"}),
        ("gm", "player", {"expression", "label", "total", "text", "dice"}),
        ("self", "player", {"expression", "label", "total", "text", "dice"}),
        ("public", "player", {"expression", "label", "total", "text", "dice"}),
    ],
)
def test_only_a_blind_roll_hides_its_result_from_the_roller(
    domain: Domain, visibility: Visibility, role: Role, told: set[str]
) -> None:
    params = {
        "type": "dice_roll",
        "data": {"expression": "d20", "label": "stealth"},
        "visibility": visibility,
    }
    fact = domain.posts(params, role=role)
    answer = domain.answer(State(), message(params, role=role), [fact])
    assert set(msgspec.json.decode(to_json(answer))["data"]) == told


@pytest.mark.rule("AC4")
def test_the_dice_of_the_service_are_the_systems_own() -> None:
    faces = [ActivityDomain()._draw(6) for _ in range(600)]
    assert set(faces) == {1, 2, 3, 4, 5, 6}


@pytest.mark.rule("AC7")
@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("turn_changed", {"current": "Ada"}),
        ("turn_changed", {"current": "Ada", "round": 3, "order": ["Ada", "Bob", ""]}),
        ("map_updated", {"mapId": "cave", "door": {"open": True, "at": [1, 2.5, None]}, "Größe": "ä"}),
        ("note_edited", {"noteId": "n1"}),
        ("note_edited", {"noteId": "n1", "title": "A", "summary": "b\nc\td"}),
    ],
)
def test_turns_maps_and_notes_are_stored_as_they_are(domain: Domain, type_: str, data: Any) -> None:
    assert domain.stores(type_, data) == data


INVALID: list[tuple[Any, str]] = [
    ({}, "`params`"),
    ({"type": "chat_message"}, "`data`"),
    ({"type": "shout", "data": {}}, "`params.type`"),
    ({"type": "chat_message", "data": {"text": "x"}, "extra": 1}, "`params.extra`"),
    ({"type": "chat_message", "data": {}}, "`params.data`"),
    ({"type": "chat_message", "data": []}, "`params.data`"),
    ({"type": "chat_message", "data": {"text": 5}}, "`params.data.text`"),
    ({"type": "chat_message", "data": {"text": ""}}, "`params.data.text`"),
    ({"type": "chat_message", "data": {"text": "\u0000\u0085\r"}}, "`params.data.text`"),
    ({"type": "chat_message", "data": {"text": "x" * 4_001}}, "`params.data.text`"),
    ({"type": "chat_message", "data": {"text": "x", "html": "<b>"}}, "`params.data.html`"),
    ({"type": "chat_message", "data": {"text": "x"}, "to": []}, "`params.to`"),
    ({"type": "chat_message", "data": {"text": "x"}, "to": ["a", ""]}, "`params.to[1]`"),
    ({"type": "chat_message", "data": {"text": "x"}, "visibility": "gm"}, "`params.visibility`"),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "to": ["bob"]}, "`params.to`"),
    ({"type": "dice_roll", "data": {"expression": "d20"}, "visibility": "secret"}, "`params.visibility`"),
    ({"type": "dice_roll", "data": {"expression": "1" * 201}}, "`params.data.expression`"),
    ({"type": "dice_roll", "data": {"expression": "d20", "total": 20}}, "`params.data.total`"),
    ({"type": "turn_changed", "data": {"current": ""}}, "`params.data.current`"),
    ({"type": "turn_changed", "data": {"current": "A", "round": -1}}, "`params.data.round`"),
    ({"type": "turn_changed", "data": {"current": "A", "order": ["a", 1]}}, "`params.data.order[1]`"),
    ({"type": "map_updated", "data": {"x": 1}}, "`params.data`"),
    ({"type": "map_updated", "data": {"mapId": "m", "n": 2**64}}, "64 bits"),
    (
        {"type": "map_updated", "data": {"mapId": "m", "deep": [[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}},
        "deeper than 20",
    ),
    ({"type": "note_edited", "data": {"title": "A"}}, "`params.data`"),
]


@pytest.mark.rule("AC3", "AC5", "AC7", "AC9")
@pytest.mark.parametrize(("params", "where"), INVALID)
def test_what_is_not_as_the_contract_says_is_refused_by_its_path(
    domain: Domain, params: Any, where: str
) -> None:
    refusal = domain.refuses(params)
    assert refusal.reason == "invalid_data"
    assert where in refusal.message


@pytest.mark.rule("AC7")
@pytest.mark.parametrize(
    "raw",
    [b'{"mapId":"m","n":1e999}', b'{"mapId":"m","t":"\\ud800"}', b'{"a":' * 3_000 + b"1" + b"}" * 3_000],
)
def test_data_that_json_cannot_carry_on_is_refused(domain: Domain, raw: bytes) -> None:
    command = CommandMessage(
        "activity.post", Raw(b'{"type":"map_updated","data":' + raw + b"}"), "ada", "Ada", "gm"
    )
    with pytest.raises(Refusal) as caught:
        domain.prepare(command, NOW)
    assert caught.value.reason == "invalid_data"


@pytest.mark.rule("AC9")
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a\u0000b\u001b[31mc\u007f\u009fd", "ab[31mcd"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("e\u0301", "\u00e9"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        (" \u200fשלום 👩‍🚀 ", " \u200fשלום 👩‍🚀 "),
    ],
)
def test_texts_are_stored_clean_and_otherwise_as_given(domain: Domain, given: str, stored: str) -> None:
    assert domain.stores("chat_message", {"text": given}) == {"text": stored}
    nested = domain.stores("map_updated", {"mapId": "m", "notes": [{"e\u0301\u0000": given}]})
    assert nested["notes"] == [{"\u00e9": stored}]


@pytest.mark.rule("AC8")
def test_a_derived_activity_stands_under_the_name_and_time_of_its_source() -> None:
    (fact,) = DECIDER.decide(State(), joined("presence@e:7:1", at=NOW - 5))
    assert (fact.activity.type, fact.activity.username, fact.activity.timestamp) == (
        "user_joined",
        "Ada",
        NOW - 5,
    )


@pytest.mark.rule("AC8")
def test_a_source_is_derived_once_however_often_it_comes() -> None:
    story = scenario().after(joined("presence@e:7:1"), joined("presence@e:9:0"), joined("canvas@e:3:0"))
    for again in ("presence@e:7:1", "presence@e:9:0", "presence@e:8:5", "canvas@e:3:0", "canvas@e:2:9"):
        story.when(joined(again)).then_nothing()
    for new in ("presence@e:9:1", "presence@e:10:0", "canvas@e:4:0", "presence@f:1:0"):
        assert story.when(joined(new)).events


@pytest.mark.rule("AC8")
def test_an_activity_without_a_name_gets_the_name_that_its_user_had() -> None:
    cleared = Derive("canvas@e:1:0", "map_updated", Raw(b"{}"), "ada", "", NOW)
    (fact,) = scenario().when(cleared).events
    assert fact.activity.username == "ada"
    (fact,) = scenario().after(joined("presence@e:1:0", username="Lady Ada")).when(cleared).events
    assert fact.activity.username == "Lady Ada"


@pytest.mark.rule("AC8")
def test_a_derivation_must_carry_its_source_as_its_id(domain: Domain) -> None:
    params = {
        "source": "presence@e:1:0",
        "type": "user_joined",
        "userId": "a",
        "username": "A",
        "data": {},
        "timestamp": 1,
    }
    command = CommandMessage("activity.derive", to_json(params), "a", "A", "gm", "presence@e:1:0")
    assert isinstance(domain.prepare(command, NOW), Derive)
    for wrong in (
        msgspec.structs.replace(command, id="other"),
        msgspec.structs.replace(command, id="x", params=to_json({**params, "source": "x"})),
    ):
        with pytest.raises(Refusal) as caught:
            domain.prepare(wrong, NOW)
        assert caught.value.reason == "invalid_data"


@pytest.mark.rule("AC1")
def test_ids_grow_though_the_clock_goes_back() -> None:
    story = scenario().after(post(at=NOW), post(at=NOW), post(at=NOW - 60_000), post(at=NOW + 1), post(at=0))
    ids = [entry.id for entry in story.state.recent]
    assert ids == sorted(set(ids))
    assert ids[0] == next_id("", NOW)
    assert all(len(id_) == 14 and id_.isascii() for id_ in ids)


@pytest.mark.rule("AC1")
def test_a_millisecond_with_more_posts_than_digits_borrows_from_the_next() -> None:
    last = next_id("", NOW)[:10] + "zzzz"
    assert next_id(last, NOW) == next_id("", NOW + 1)


@pytest.mark.rule("AC2")
def test_the_state_forgets_old_activities_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    state = scenario().after(*(post(str(number)) for number in range(module.RECENT + 10))).state
    assert (len(state.recent), state.total) == (module.RECENT, module.RECENT + 10)
    large = scenario().after(*(post("x" * 4_000) for _ in range(module.RECENT))).state
    assert large.recent_bytes == sum(entry.size for entry in large.recent) <= module.RECENT_BYTES
    monkeypatch.setattr(module, "RECENT_BYTES", 10)
    assert len(scenario().after(post(), post()).state.recent) == 1


def test_what_a_newer_version_has_stored_is_skipped(domain: Domain) -> None:
    known = to_json(domain.posts({"type": "chat_message", "data": {"text": "x"}}).activity)
    assert domain.recall(StoredEvent("activity.post", known, NOW)) is not None
    assert domain.recall(StoredEvent("activity.pinned", known, NOW)) is None
    assert domain.recall(StoredEvent("activity.post", Raw(b'{"id":"1","type":"poll"}'), NOW)) is None
    more = Raw(bytes(known)[:-1] + b',"mood":"happy"}')
    assert domain.recall(StoredEvent("activity.post", more, NOW)) is not None
