"""The widget of chapter 8 on attention: its shares are softmax's, of the network that it is given."""

import numpy as np
import pytest
from conftest import check_forms, check_pictures, check_quick, lively_unet

from minidiff import data, show
from minidiff.process import diffuse
from minidiff.schedule import cosine
from minidiff.show.attention import attention, shares

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
from minidiff.nn import UNetConfig  # noqa: E402

TABLE = cosine()
IMAGE = torch.from_numpy(data.digits()[0][5][None])
CONFIG = UNetConfig(size=8, channels=1, base=8, multipliers=(1, 2), blocks=1, attention=(4,),
                    heads=2, groups=4, dropout=0.0, classes=10, level_scale=50)
NETWORK = lively_unet(CONFIG, 0.7)
BLOCKS = {"way down": NETWORK.down[2].attention, "middle": NETWORK.middle[0].attention}


def make():
    return attention(NETWORK, BLOCKS, TABLE, IMAGE)


@pytest.fixture(scope="module")
def widget():
    return make()


def test_a_picture_depends_on_its_state_alone(widget):
    check_pictures(widget, make, [{}, {"t": 200}, {"t": 1000}, {"column": "a"}, {"row": "4"},
                                  {"block": "middle"}])


@pytest.mark.parametrize("t", range(200, 1001, 200))
def test_every_option_moves_every_picture(widget, t):
    pictures = {widget.draw(t=t, column=column, row=row, block=block)
                for column in "abcd" for row in "1234" for block in BLOCKS}
    assert len(pictures) == 32


def by_hand(block, h):
    """Vaswani et al.'s eq. 1, head by head, in NumPy."""
    weight, bias = (x.detach().numpy() for x in (block.qkv.weight[..., 0, 0], block.qkv.bias))
    x = block.norm(h).detach().numpy()[0].reshape(h.shape[1], -1)
    q, k, _ = (weight @ x + bias[:, None]).reshape(3, block.heads, -1, x.shape[1])
    heads = []
    for head in range(block.heads):
        scores = q[head].T @ k[head] / np.sqrt(len(q[head]))
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(odds / odds.sum(axis=1, keepdims=True))
    return np.mean(heads, axis=0)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_shares_are_softmax_of_questions_and_keys(name):
    eps = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    found = shares(NETWORK, BLOCKS, TABLE, IMAGE[None], eps, [200, 700])[name]
    assert found.shape == (2, 16, 16)
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-6)
    for t, share in zip((200, 700), found):
        caught = []
        hook = BLOCKS[name].register_forward_hook(
            lambda _, given, made, caught=caught: caught.append(given[0]))
        NETWORK(diffuse(TABLE, IMAGE[None], t, eps), TABLE.log_snr[t].item())
        hook.remove()
        np.testing.assert_allclose(share, by_hand(BLOCKS[name], caught[0]), atol=1e-5)


def test_the_numbers_are_of_the_place_that_asks(widget):
    eps = np.random.default_rng(0).standard_normal((1, 1, 8, 8))
    rows = shares(NETWORK, BLOCKS, TABLE, IMAGE[None], IMAGE.new_tensor(eps), [500])["middle"][0]
    widget.controls["t"].value, widget.controls["block"].value = 500, "middle"
    widget.controls["column"].value, widget.controls["row"].value = "b", "4"  # above, second
    share = rows[1].reshape(4, 4)
    numbers = widget.numbers
    assert numbers["itself"] == pytest.approx(share[0, 1], rel=1e-4)
    assert numbers["far"] == pytest.approx(1 - share[:2, :3].sum(), rel=1e-4)
    assert numbers["places"] == pytest.approx(np.prod(share**-share), rel=1e-4)
    assert all(type(number) is float for number in numbers.values())
    heat = max((a for a in widget.picture.moving if hasattr(a, "get_array")
                and np.shape(a.get_array()) == (4, 4)), key=lambda a: a.zorder)
    np.testing.assert_allclose(heat.get_array(), share, atol=1e-6)


def test_it_leaves_the_network_as_it_was(widget):
    assert not any(module._forward_pre_hooks for module in NETWORK.modules())


def test_it_has_three_forms_is_small_and_quick(widget):
    check_quick(widget, make)
    check_forms(widget)


def test_it_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="blocks must be two or more by name; got"):
        attention(NETWORK, {"one": BLOCKS["middle"]}, TABLE, IMAGE)
    with pytest.raises(ValueError, match="schedule must be of T divisible by 10; got 99"):
        attention(NETWORK, BLOCKS, cosine(99), IMAGE)


def test_it_is_the_books():
    assert show.attention is attention
