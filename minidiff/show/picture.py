"""A picture that is a pure function of its state, redrawn within a frame's time."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image


class Picture:
    """A figure built once, in which only the artists made with `animated=True` ever move.

    `move(**state)` sets every one of them from the state alone and returns the state's numbers, a
    dict. What stands still is drawn once and kept; what moves lies on top of it.
    """

    def __init__(self, figure, move):
        self.figure, self.move = figure, move
        self.canvas = FigureCanvasAgg(figure)
        self.canvas.draw()
        self.still = self.canvas.copy_from_bbox(figure.bbox)
        self.background = np.array(self.canvas.buffer_rgba())[..., :3]
        moving = [artist for artist in figure.findobj() if artist.get_animated()]
        self.moving = sorted(moving, key=lambda artist: artist.zorder)

    def pixels(self, **state):
        """The picture at this state, (height, width, 3) uint8, and the state's numbers."""
        numbers = self.move(**state)
        self.canvas.restore_region(self.still)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        return np.array(self.canvas.buffer_rgba())[..., :3], numbers

    def sharp(self):
        """What stands still, at twice the resolution."""
        dpi = self.figure.dpi
        self.figure.set_dpi(2 * dpi)
        self.canvas.draw()
        pixels = np.array(self.canvas.buffer_rgba())[..., :3]
        self.figure.set_dpi(dpi)
        return pixels

    def window(self, axes):
        """Where these axes lie among the pixels: left, top, width, height."""
        left, bottom, right, top = np.rint(axes.bbox.extents).astype(int).tolist()
        return left, self.background.shape[0] - top, right - left, top - bottom


def png(pixels, colours=None, level=1):
    """PNG bytes of (height, width, 3 or 4) uint8; a palette of so many `colours` makes it small."""
    image = Image.fromarray(pixels)
    if colours:
        image = image.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level, optimize=bool(colours))
    return file.getvalue()
