"""An archive as the part `file` of a form: taken apart as it comes, and never in memory whole."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from api.body import validate
from api.problems import Refused, field_error, validation_failed
from api.registration import DatasetName

FORM = "multipart/form-data"
ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
#: Some clients know no better name for a file of theirs.
_FILE_TYPES = ZIP_TYPES | {"application/octet-stream"}
#: What a form may have beside its file: delimiters, heads, a name.
MAX_OTHER_BYTES = 2**16
_MAX_NAME_BYTES = 4096

#: For OpenAPI.
FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A zip archive."},
        "name": {"type": "string", "description": "Need not be unique."},
    },
}


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: DatasetName | None = None


class UploadForm:
    """Fed with pieces of the body, it gives those of the file in them. Raises Refused: 400, 415, 422."""

    def __init__(self, boundary: str) -> None:
        self._file: list[bytes] = []  #: of the piece at hand
        self._seen: set[str] = set()
        self._name = bytearray()
        self._other_bytes = 0
        self._part = ""
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_whole = False
        self._parser = _parser(
            boundary,
            on_part_begin=self._headers.clear,
            on_header_field=self._on_header_field,
            on_header_value=self._on_header_value,
            on_header_end=self._on_header_end,
            on_headers_finished=self._on_headers_finished,
            on_part_data=self._on_part_data,
            on_end=self._on_end,
        )

    def feed(self, piece: bytes) -> bytes:
        """The file's bytes in it."""
        self._file.clear()
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _no_form(str(error)) from None
        file = b"".join(self._file)
        self._other_bytes += len(piece) - len(file)
        if self._other_bytes > MAX_OTHER_BYTES:
            raise _no_form(f"it has more than {MAX_OTHER_BYTES // 1024} KiB beside its file")
        return file

    def end(self) -> str | None:
        """The dataset's name, once all of the body was fed."""
        if not self._is_whole:
            raise _no_form("it was cut short, or is none")
        if "file" not in self._seen:
            raise _refused("file", "The form has no part `file`; send the archive as that.", "missing")
        if "name" not in self._seen:
            return None
        try:
            return validate(_Fields, {"name": self._name.decode()}).name
        except UnicodeDecodeError:
            raise _no_form("the name is not UTF-8") from None

    # -- What the parser finds -------------------------------------------------------------------

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part not in {"file", "name"}:
            raise _refused(self._part, "A form has the parts `file` and `name` alone.", "extra_forbidden")
        if self._part in self._seen:
            raise _refused(self._part, "This part is there twice.", "duplicate_key")
        self._seen.add(self._part)
        kind, _ = parse_options_header(self._headers.get(b"content-type"))
        if self._part == "file" and kind and kind.decode("latin-1") not in _FILE_TYPES:
            raise Refused(
                415,
                "unsupported_media_type",
                "The part `file` is no zip archive by its Content-Type; send application/zip.",
            )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._file.append(data[start:end])
        elif len(self._name) + end - start > _MAX_NAME_BYTES:
            raise _refused("name", "The name is too long.", "string_too_long")
        else:
            self._name += data[start:end]

    def _on_end(self) -> None:
        self._is_whole = True


def _parser(boundary: str, **callbacks: Any) -> MultipartParser:
    if not boundary:
        raise _no_form("its Content-Type has no boundary")
    try:
        return MultipartParser(boundary.encode("ascii"), callbacks)  # type: ignore[arg-type]
    except (FormParserError, UnicodeEncodeError):
        raise _no_form("its boundary is none") from None


def _no_form(why: str) -> Refused:
    return Refused(400, "invalid_form", f"The body cannot be read as a form: {why[:200]}.")


def _refused(field: str, message: str, code: str) -> Refused:
    return validation_failed([field_error(field, message, code)])
