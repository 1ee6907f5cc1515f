"""Two people at one table, in every browser: what one does, the other sees."""

from __future__ import annotations

from roundtable.common.testing.system import System

from .conftest import People

RED = "#c0392b"
BLUE = "#2a6fdb"


async def test_two_people_draw_and_see_each_other(table: System, room: str, person: People) -> None:
    """At different gateways: the stroke goes through the log."""
    ann, ben = await person(), await person(table.of("gateway")[1].http)
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (260, 205), (320, 200), (400, 200)])
    for each in (ann, ben):
        await each.sees_ink((300, 201), RED)
    await ben.takes("rectangle", "Blue")
    await ben.draws([(450, 250), (500, 280), (550, 350)])
    for each in (ann, ben):
        await each.sees_ink((450, 300), BLUE)
        await each.sees_no_ink((500, 300), BLUE)
    await ann.sees("Ben")
    await ben.sees("Ann")


async def test_undo_takes_back_ones_own_alone_and_redo_brings_it_again(room: str, person: People) -> None:
    ann, ben = await person(), await person()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    await ben.sees_ink((300, 200), RED)
    await ben.takes("pen", "Blue")
    await ben.draws([(200, 300), (300, 300), (400, 300)])
    await ann.sees_ink((300, 300), BLUE)
    await ann.page.press("Control+z")
    for each in (ann, ben):
        await each.sees_no_ink((300, 200), RED)
        await each.sees_ink((300, 300), BLUE)
    await ann.page.click("#redo")
    for each in (ann, ben):
        await each.sees_ink((300, 200), RED)


async def test_an_eraser_takes_ink_away_and_leaves_the_paper(room: str, person: People) -> None:
    ann, ben = await person(), await person()
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    await ben.sees_ink((300, 200), RED)
    await ben.takes("eraser")
    await ben.draws([(300, 150), (300, 200), (300, 250)])
    for each in (ann, ben):
        await each.sees_no_ink((300, 200), RED)
        await each.sees_ink((220, 200), RED)


async def test_they_talk_and_whisper_and_what_is_said_stays_text(room: str, person: People) -> None:
    gm, ann, ben = await person(), await person(), await person()
    await gm.sits_down("Gil", room, "gm")
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    wild = "<img src=x onerror=alert(1)> & <b>bold</b>"
    await ann.says(wild)
    for each in (gm, ann, ben):
        await each.hears(wild)
    assert await ben.page.run("document.querySelectorAll('#feed img, #feed .text b').length") == 0
    await gm.sees("Ann")
    await gm.says("/w Ann A door creaks.")
    await ann.hears("A door creaks.")
    await gm.says("It is dark.")
    await ben.hears("It is dark.")
    assert await ben.all_heard() == [wild, "It is dark."]


async def test_they_roll_and_a_hidden_roll_is_the_gms_alone(room: str, person: People) -> None:
    gm, ann, ben = await person(), await person(), await person()
    await gm.sits_down("Gil", room, "gm")
    await ann.sits_down("Ann", room)
    await ben.sits_down("Ben", room)
    await ann.rolls("3d1 + 4 # attack")
    for each in (gm, ann, ben):
        assert await each.sees_roll("attack") == "7"
    await ann.page.run("(document.querySelector('#visibility').value = 'blind')")
    await ann.rolls("2d1 # sneaking")
    assert await gm.sees_roll("sneaking") == "2"
    assert await ann.sees_roll("sneaking") == "only the gm sees the result"
    await ben.says("Well?")
    await ann.hears("Well?")
    assert not await ben.page.run(
        "[...document.querySelectorAll('#feed .roll b')].some((b) => b.textContent === 'sneaking')"
    )


async def test_a_reload_sits_down_again_and_finds_everything(room: str, person: People) -> None:
    ann = await person()
    await ann.sits_down("Ann", room)
    await ann.takes("pen", "Red")
    await ann.draws([(200, 200), (300, 200), (400, 200)])
    await ann.sees_ink((300, 200), RED)
    await ann.says("I was here.")
    await ann.hears("I was here.")
    await ann.opens(room)
    await ann.is_connected()
    await ann.hears("I was here.")
    await ann.sees_ink(None, RED)  # wherever it is: the view shows all there is
    await ann.page.press("Control+z")
    await ann.sees_no_ink(None, RED)
    assert list(await ann.people()) == ["Ann"]
