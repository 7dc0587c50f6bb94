"""Whether files, by their paths alone, make a dataset that can be trained on."""

from collections import Counter
from collections.abc import Iterable

from models.errors import ArchiveInvalid


def expect_classes(files: Iterable[str], folders: Iterable[str]) -> None:
    """``train/<class>/*`` and ``val/<class>/*``, or ``<class>/*`` alone. Raises ArchiveInvalid.

    ``folders`` are those that the archive names: an empty one may be meant as a class.
    """
    paths = [path.split("/") for path in files]
    named = [path.split("/") for path in folders]
    sides = sorted({path[0] for path in paths if path[0] in {"train", "val"} and len(path) > 2})
    if len(sides) == 1:
        absent = "val" if sides == ["train"] else "train"
        raise ArchiveInvalid(
            f"There is a folder {sides[0]!r} with classes but no {absent!r} beside it; add it, or put the "
            "class folders at the top of the archive."
        )
    depth = 1 if sides else 0
    images = Counter(tuple(path[: depth + 1]) for path in paths if len(path) > depth + 1)
    stray = [path for path in paths if len(path) <= depth + 1 or (sides and path[0] not in sides)]
    if not images:
        raise ArchiveInvalid("The archive has no class folders with images in them.")
    if stray:
        raise ArchiveInvalid(
            f"{'/'.join(stray[0])!r} lies in no class folder; move it into one, or leave it out."
        )
    classes = {place[-1] for place in images}
    for path in named:
        place = tuple(path[: depth + 1])
        if len(place) == depth + 1 and place not in images and (not sides or place[0] in sides):
            raise ArchiveInvalid(f"The class {'/'.join(place)!r} has no images.")
    for side, other in (("train", "val"), ("val", "train")) if sides else ():
        for name in sorted(classes):
            if (side, name) not in images:
                raise ArchiveInvalid(f"The class {name!r} is in the folder {other!r} but not in {side!r}.")
    if len(classes) < 2:
        raise ArchiveInvalid("The archive has a single class; a classifier needs at least two folders.")
    if not sides and max(images.values()) < 2:
        raise ArchiveInvalid("No image is left for validation: every class has a single one.")
