"""How a reader explores a widget, by key and by mouse: in JupyterLab, or in a saved page.

Each control is moved, and what the widget shows must follow.
"""

import time
from collections import namedtuple
from contextlib import suppress

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
PATIENCE_S = 20
sync_api.expect.set_options(timeout=1e3 * PATIENCE_S)

# A form of the widgets: where its parts are, and how to tell that nothing moves any more. A live
# one's kernel must have done all that it was sent, and what was held back until then.
Form = namedtuple("Form", "widget slider track line choice play pause settled")
FRAMES = "for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);"
LIVE = Form(widget=".widget-vbox:has(> .widget-image)", slider="[role=slider]",
            track=".noUi-target", line="> .widget-html .widget-html-content",
            choice=".widget-toggle-button:not(.mod-active)", play=".widget-play button:visible",
            pause=".widget-play button:has(.fa-pause)", settled=f"""async (widget) => {{
    const {{ kernel }} = jupyterapp.shell.currentWidget.sessionContext.session;
    if (!kernel.atWork) {{
        kernel.atWork = new Set(); // on these messages
        kernel.anyMessage.connect((_, {{ msg, direction }}) => {{
            if (direction === "send" && msg.channel === "shell")
                kernel.atWork.add(msg.header.msg_id);
            if (msg.content.execution_state === "idle")
                kernel.atWork.delete(msg.parent_header.msg_id);
        }});
    }}
    {FRAMES}
    if (kernel.atWork.size) return false;
    const glides = widget.getAnimations({{ subtree: true }});
    await Promise.allSettled(glides.map((glide) => glide.finished));
    {FRAMES}
    return kernel.atWork.size === 0;
}}""")
SAVED = Form(widget="figure.minidiff", slider="input[type=range]", track="input[type=range]",
             line="p", choice="input[type=radio]:not(:checked)", play="button:has-text('Play')",
             pause="button:has-text('Pause')", settled=f"async () => {{ {FRAMES} return true; }}")

# What a widget shows: its pixels (none before it is drawn), its line of text.
LOOK = """async (widget, line) => {
    const told = widget.querySelector(`:scope ${line}`);
    if (!told) return ["", ""]; // its script has yet to run
    const shown = widget.querySelector("canvas, img"), copy = document.createElement("canvas");
    await shown.decode?.().catch(() => {});
    copy.width = shown.naturalWidth || shown.width;
    copy.height = shown.naturalHeight || shown.height;
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(shown, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    const drawn = data[4 * copy.width + 7] > 0;
    return [drawn ? new Uint8Array(await crypto.subtle.digest("SHA-1", data)).join() : "",
            told.textContent];
}"""
Look = namedtuple("Look", "pixels line")

# Least, present and greatest value of either kind of slider.
RANGE = """e => e.type === "range" ? [e.min, e.value, e.max].map(Number)
    : [e.ariaValueMin, e.ariaValueNow, e.ariaValueMax].map(Number)"""


def look(widget, form):
    return Look(*widget.evaluate(LOOK, form.line))


def until(widget, form, holds, what):
    """What the widget shows, as soon as that `holds`."""
    end = time.monotonic() + PATIENCE_S
    while not holds(seen := look(widget, form)):
        assert time.monotonic() < end, f"{what}; the widget still shows {seen.line!r}"
        widget.page.wait_for_timeout(20)
    return seen


def rest(widget, form):
    """What the widget shows once nothing moves in it any more, and no kernel is at work on it."""
    end = time.monotonic() + PATIENCE_S
    while not widget.evaluate(form.settled):
        assert time.monotonic() < end, "it does not come to rest"
    return look(widget, form)


def changes(widget, form, act, what, line=True):
    """Do something that must change the picture and the line; what both were before."""
    before = rest(widget, form)
    act()
    until(widget, form, lambda seen: seen.pixels != before.pixels
          and (seen.line != before.line or not line), what)
    return before


def explore(widget, form, mouse_first=True):
    """Move every control of a widget, by key and by mouse."""
    widget.scroll_into_view_if_needed()
    until(widget, form, lambda seen: seen.pixels, "it is not drawn")
    for slider, track in zip(widget.locator(form.slider).all(), widget.locator(form.track).all()):
        if mouse_first:
            by_mouse(widget, form, slider, track)
        by_key(widget, form, slider)
        by_mouse(widget, form, slider, track)
    for i in range(widget.locator(form.choice).count()):
        choice = widget.locator(form.choice).nth(i)
        changes(widget, form, choice.click, "a choice changes nothing", line=False)
    play = widget.locator(form.play).first
    changes(widget, form, play.click, "it does not play")
    halt(widget, form)


def by_key(widget, form, slider):
    least, now, greatest = slider.evaluate(RANGE)
    slider.focus()
    key, back = "ArrowLeft", "ArrowRight"
    if now < (least + greatest) / 2:
        key, back = back, key
    before = changes(widget, form, lambda: slider.press(key), f"its slider does not follow {key}")
    assert slider.evaluate(RANGE)[1] != now
    rest(widget, form)  # a live one's kernel may still be confirming the first key
    slider.press(back)
    until(widget, form, lambda seen: seen == before, "one state, two pictures")


def by_mouse(widget, form, slider, track):
    """Click on the far half of the slider's track, then drag the handle to the middle."""
    least, now, greatest = slider.evaluate(RANGE)
    box, mouse = track.bounding_box(), widget.page.mouse
    y, goal = box["y"] + box["height"] / 2, 0.2 if now > (least + greatest) / 2 else 0.8
    changes(widget, form, lambda: mouse.click(box["x"] + goal * box["width"], y),
            "its slider does not follow a click")

    def drag():
        share = (slider.evaluate(RANGE)[1] - least) / (greatest - least)
        x = box["x"] + 8 + share * (box["width"] - 16)  # the handle stays within the track
        if form is LIVE:  # there the slider is its own handle, and tells its value to one decimal
            handle = slider.bounding_box()
            x = handle["x"] + handle["width"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(box["x"] + box["width"] / 2, y, steps=5)
        mouse.up()

    changes(widget, form, drag, "its slider does not follow a drag")


def halt(widget, form):
    """Stop what plays."""
    pause = widget.locator(form.pause)
    if pause.count():
        with suppress(sync_api.TimeoutError):  # of few stops, it may have come to its end
            pause.first.click(timeout=2000)
    sync_api.expect(pause).to_have_count(0)
    rest(widget, form)


def one_stride_only(widget):
    """Where the reader wants no motion, one press of Play, or of Reverse, is one stride."""
    slider = widget.locator(SAVED.slider).first
    for start, button in (("Home", "Play"), ("End", "Reverse")):
        slider.press(start)
        widget.get_by_role("button", name=button).first.click()
        least, now, greatest = slider.evaluate(RANGE)
        widget.page.wait_for_timeout(500)
        assert slider.evaluate(RANGE) == [least, now, greatest] and least < now < greatest
        assert abs(now - (least if start == "Home" else greatest)) <= (greatest - least) / 2
