"""What an image file is by its name and its first bytes, without decoding it."""

from models.errors import ArchiveInvalid

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
MAX_PIXELS = 89_478_485  #: Pillow's own line between a large image and a decompression bomb
#: Longer side to shorter. The shorter one is resized to what the network wants, and so the longer one grows
#: with this ratio. At 32, the largest image at the largest `image_size` (2048) takes 1.5 GB on its way, as
#: much as decoding may; and of a longer strip validation, which sees the square in its middle, sees nothing.
MAX_ASPECT_RATIO = 32
#: So many bytes of a file are enough to judge it by.
HEAD_BYTES = 32

_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")


def expect_image(name: str, head: bytes) -> None:
    """Raises ArchiveInvalid for what plainly is no image, or says itself that it is far too large.

    A name promises no format: a JPEG called .png is decoded all the same.
    """
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    if not (head.startswith(_BEGINNINGS) or is_webp):
        raise ArchiveInvalid(f"{name!r} is no image, or of a kind that is not supported; leave it out.")
    width, height = _size(head)
    if width * height > MAX_PIXELS:
        raise ArchiveInvalid(
            f"{name!r} has {width} × {height} pixels, more than {MAX_PIXELS}; scale it down."
        )


def _size(head: bytes) -> tuple[int, int]:
    """Pixels as the header gives them; zeros where they stand further down."""
    if head.startswith(b"\x89PNG"):
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head.startswith(b"GIF8"):
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"BM"):
        return int.from_bytes(head[18:22], "little"), abs(int.from_bytes(head[22:26], "little", signed=True))
    return 0, 0
