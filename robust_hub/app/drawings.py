"""Pictures to try the page with, drawn here in lines and ellipses: they belong to no data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw

SIZE = 256  # pixels a side
Colour = tuple[int, int, int]
_BLACK, _WHITE, _GLASS, _ROAD = (20, 20, 22), (238, 240, 242), (60, 80, 105), (108, 108, 112)


def _ship() -> Image.Image:
    image, draw = _canvas((150, 190, 230), (215, 230, 240))
    draw.rectangle([0, 160, SIZE, SIZE], fill=(40, 90, 140))
    for y in range(172, SIZE, 15):
        draw.line([(0, y), (SIZE, y - 2)], fill=(70, 120, 165), width=2)
    draw.polygon([(24, 150), (232, 150), (204, 190), (56, 190)], fill=(140, 35, 35))
    draw.rectangle([24, 142, 232, 152], fill=_WHITE)
    draw.rectangle([70, 104, 180, 144], fill=_WHITE)
    for x in range(80, 180, 20):
        draw.rectangle([x, 114, x + 10, 124], fill=_GLASS)
    draw.rectangle([110, 64, 134, 106], fill=(200, 60, 40))
    draw.rectangle([110, 64, 134, 74], fill=_BLACK)
    return image


def _airplane() -> Image.Image:
    image, draw = _canvas((90, 150, 225), (190, 220, 245))
    draw.ellipse([20, 118, 236, 150], fill=_WHITE)
    draw.polygon([(110, 130), (60, 210), (90, 210), (160, 136)], fill=(205, 210, 218))
    draw.polygon([(120, 126), (90, 66), (112, 66), (160, 124)], fill=(215, 220, 228))
    draw.polygon([(30, 128), (10, 80), (34, 80), (62, 126)], fill=(190, 60, 60))
    draw.polygon([(34, 136), (16, 160), (32, 160), (60, 140)], fill=(205, 210, 218))
    for x in range(80, 206, 14):
        draw.ellipse([x, 128, x + 6, 134], fill=_GLASS)
    draw.polygon([(214, 124), (236, 134), (220, 134)], fill=_GLASS)
    return image


def _car() -> Image.Image:
    image, draw = _canvas((190, 205, 220), (225, 230, 235))
    draw.rectangle([0, 170, SIZE, SIZE], fill=_ROAD)
    draw.polygon([(60, 130), (92, 84), (176, 84), (212, 130)], fill=(180, 25, 30))
    draw.rounded_rectangle([20, 122, 240, 184], 18, fill=(205, 30, 35))
    draw.polygon([(76, 126), (98, 94), (130, 94), (130, 126)], fill=_GLASS)
    draw.polygon([(138, 126), (138, 94), (170, 94), (194, 126)], fill=_GLASS)
    _wheels(draw, (72, 188), 184)
    draw.rectangle([228, 138, 240, 150], fill=(255, 240, 170))
    draw.rectangle([20, 138, 30, 150], fill=(120, 10, 10))
    return image


def _truck() -> Image.Image:
    image, draw = _canvas((170, 195, 225), (225, 232, 240))
    draw.rectangle([0, 190, SIZE, SIZE], fill=_ROAD)
    draw.rectangle([14, 60, 164, 176], fill=_WHITE)
    draw.rectangle([14, 60, 164, 72], fill=(200, 200, 205))
    draw.polygon([(170, 100), (214, 100), (242, 140), (242, 180), (170, 180)], fill=(30, 80, 170))
    draw.polygon([(182, 110), (210, 110), (228, 138), (182, 138)], fill=(190, 215, 235))
    draw.rectangle([14, 172, 242, 184], fill=(50, 50, 55))
    _wheels(draw, (52, 102, 206), 188)
    return image


def _frog() -> Image.Image:
    image, draw = _canvas((120, 95, 60), (90, 70, 45))
    draw.ellipse([50, 100, 206, 220], fill=(90, 150, 50))
    draw.ellipse([70, 60, 186, 160], fill=(105, 165, 60))
    for x in (88, 168):
        draw.ellipse([x - 22, 46, x + 22, 90], fill=(110, 170, 65))
        draw.ellipse([x - 13, 54, x + 13, 80], fill=(240, 220, 90))
        draw.ellipse([x - 6, 58, x + 6, 76], fill=_BLACK)
    draw.arc([90, 90, 166, 140], 20, 160, fill=(40, 70, 25), width=5)
    draw.ellipse([30, 180, 90, 230], fill=(80, 140, 45))
    draw.ellipse([166, 180, 226, 230], fill=(80, 140, 45))
    return image


def _bird() -> Image.Image:
    image, draw = _canvas((130, 180, 225), (200, 220, 235))
    draw.rectangle([0, 214, SIZE, 222], fill=(90, 70, 50))
    draw.ellipse([70, 96, 190, 190], fill=(150, 110, 70))
    draw.ellipse([150, 60, 214, 122], fill=(160, 120, 80))
    draw.polygon([(210, 86), (240, 94), (210, 104)], fill=(230, 170, 40))
    draw.ellipse([184, 78, 196, 90], fill=_BLACK)
    draw.polygon([(84, 150), (14, 176), (24, 196), (100, 176)], fill=(120, 85, 55))
    draw.ellipse([90, 116, 160, 172], fill=(120, 85, 55))
    for x in (120, 144):
        draw.line([(x, 186), (x, 216)], fill=(200, 140, 40), width=5)
    return image


def _cat() -> Image.Image:
    image, draw = _canvas((200, 190, 175), (160, 145, 125))
    for side in (-1, 1):
        ear = ((68, 110), (62, 30), (12, 76)), ((56, 90), (54, 52), (30, 76))
        for corners, colour in zip(ear, ((110, 100, 95), (220, 160, 160)), strict=True):
            draw.polygon([(128 + side * x, y) for x, y in corners], fill=colour)
    draw.ellipse([50, 60, 206, 214], fill=(125, 115, 108))
    for x in (96, 160):
        draw.ellipse([x - 18, 104, x + 18, 138], fill=(190, 210, 90))
        draw.ellipse([x - 5, 106, x + 5, 136], fill=_BLACK)
    draw.ellipse([96, 156, 160, 200], fill=(200, 195, 190))
    draw.polygon([(116, 150), (140, 150), (128, 164)], fill=(220, 140, 140))
    for y in (166, 176, 186):
        for side in (-1, 1):
            draw.line([(128 + side * 88, y - 6), (128 + side * 28, y)], fill=_WHITE, width=2)
    return image


def _horse() -> Image.Image:
    image, draw = _canvas((170, 205, 240), (215, 230, 240))
    draw.rectangle([0, 150, SIZE, SIZE], fill=(95, 140, 60))
    coat, mane = (105, 60, 30), (40, 25, 15)
    draw.ellipse([60, 96, 190, 160], fill=coat)
    draw.polygon([(160, 120), (196, 50), (222, 60), (190, 140)], fill=coat)
    draw.polygon([(194, 50), (240, 76), (232, 92), (200, 80)], fill=coat)
    draw.polygon([(198, 52), (202, 34), (210, 52)], fill=coat)
    draw.polygon([(190, 54), (160, 112), (172, 120), (200, 60)], fill=mane)
    for x in (78, 96, 156, 174):
        draw.rectangle([x - 6, 150, x + 6, 226], fill=coat)
    draw.polygon([(66, 108), (40, 170), (52, 176), (74, 130)], fill=mane)
    return image


DRAWINGS: Mapping[str, Callable[[], Image.Image]] = {
    "ship": _ship,
    "airplane": _airplane,
    "car": _car,
    "truck": _truck,
    "frog": _frog,
    "bird": _bird,
    "cat": _cat,
    "horse": _horse,
}


def drawing(name: str) -> Image.Image:
    """Draw a picture, RGB of SIZE x SIZE.

    Args:
        name: A key of DRAWINGS.

    Example:
        >>> drawing("ship").size
        (256, 256)
    """
    return DRAWINGS[name]()


def _canvas(top: Colour, bottom: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Paint a sky that changes from one colour to another."""
    shade = Image.linear_gradient("L").resize((SIZE, SIZE))
    image = Image.composite(Image.new("RGB", shade.size, bottom), Image.new("RGB", shade.size, top), shade)
    return image, ImageDraw.Draw(image)


def _wheels(draw: ImageDraw.ImageDraw, places: tuple[int, ...], y: int) -> None:
    for x in places:
        draw.ellipse([x - 25, y - 25, x + 25, y + 25], fill=_BLACK)
        draw.ellipse([x - 11, y - 11, x + 11, y + 11], fill=(168, 168, 172))
