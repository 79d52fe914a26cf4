"""``loom.media``: files and bytes as parts, by what they are and never by what they are called."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom import media
from loom.errors import ConfigError
from loom.safety.media import MAX_MEDIA_BYTES, fault_of, media_types, split_data_url
from loom.types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    VideoPart,
)


def box(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\2\0isommp42"


PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
CONTENTS: dict[str, bytes] = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9),
    "image/gif": b"GIF89a" + bytes(9),
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(9),
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "audio/wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(9),
    "audio/mpeg": b"ID3\4\0\0\0\0\0\0" + bytes(9),
    "audio/flac": b"fLaC\0\0\0\x22" + bytes(9),
    "audio/ogg": b"OggS\0\2" + bytes(20),
    "audio/aac": b"\xff\xf1\x50\x80\x02\x1f\xfc",
    "audio/mp4": box(b"M4A "),
    "video/mp4": box(b"isom"),
    "video/quicktime": box(b"qt  "),
    "video/webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webmB\x87\x81\4",
    "text/plain": "Olá, mundo\n".encode(),
}
UNKNOWN: dict[str, bytes] = {
    "empty": b"",
    "zip": b"PK\3\4" + bytes(30),
    "elf": b"\x7fELF" + bytes(30),
    "heic": box(b"heic"),
    "avif": box(b"avif"),
    "matroska": CONTENTS["video/webm"].replace(b"\x84webm", b"\x88matroska"),
    "avi": b"RIFF\x24\0\0\0AVI LIST",
    "latin-1": "Olá".encode("latin-1"),
    "utf-16": "Hello".encode("utf-16"),
    "nul": b"hello\0world",
    "reserved rates": b"\xff\xfb\xf0\0" + bytes(9),
    "half a magic": b"\x89PNG\r\n",
}
MAKERS: dict[str, Callable[[Any], Part]] = {
    "image": media.image,
    "audio": media.audio,
    "video": media.video,
    "application": media.document,
    "text": media.document,
}
KINDS = {
    "image": ImagePart,
    "audio": AudioPart,
    "video": VideoPart,
    "application": FilePart,
    "text": FilePart,
}


def family(media_type: str) -> str:
    return media_type.partition("/")[0]


def decoded(part: Any) -> tuple[str, bytes]:
    media_type, text = split_data_url(part.source)
    return media_type, base64.b64decode(text, validate=True)


@pytest.mark.parametrize("media_type", list(CONTENTS))
def test_what_a_file_is_its_bytes_say(media_type: str, tmp_path: Path) -> None:
    content = CONTENTS[media_type]
    file = tmp_path / "innocent.xyz"
    file.write_bytes(content)
    make, kind = MAKERS[family(media_type)], KINDS[family(media_type)]
    for source in (file, str(file), content):
        part: Any = make(source)
        assert type(part) is kind
        assert decoded(part) == (media_type, content)
        assert part.media_type == media_type
        assert media.attachment(source) == part
    assert make(make(file).source).source == make(file).source  # type: ignore[union-attr]
    assert media.infer_media_type(file) == media_type
    assert media.load_file_bytes(file) == (content, media_type)
    assert media.load_file_bytes(make(file).source) == (content, media_type)  # type: ignore[union-attr]
    assert media.encode_to_base64(file) == (base64.b64encode(content).decode(), media_type)
    assert media.attach([kind(str(file))]) == [make(file)]


@pytest.mark.parametrize("media_type", list(CONTENTS))
@pytest.mark.parametrize("make", [media.image, media.audio, media.video, media.document])
def test_a_kind_holds_its_own_kind_only(make: Any, media_type: str, tmp_path: Path) -> None:
    both = {"video/mp4", "video/webm"}  # such a film may hold sound alone
    if make is MAKERS[family(media_type)] or (make is media.audio and media_type in both):
        assert make(CONTENTS[media_type])
        return
    with pytest.raises(ConfigError, match=media_type):
        make(CONTENTS[media_type])
    as_data = f"data:{media_type};base64,{base64.b64encode(CONTENTS[media_type]).decode()}"
    with pytest.raises(ConfigError, match=media_type):
        make(as_data)


@pytest.mark.parametrize("name", list(UNKNOWN))
def test_what_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(UNKNOWN[name])
    for make in (
        media.image,
        media.audio,
        media.video,
        media.document,
        media.attachment,
        media.load_file_bytes,
    ):
        with pytest.raises(ConfigError, match="not sent"):
            make(file)


def test_mpeg_sound_without_a_head() -> None:
    assert media_types(b"\xff\xfb\x90\x64" + bytes(9)) == ("audio/mpeg",)
    assert media_types(b"\xff\xf3\x84\xc4" + bytes(9)) == ("audio/mpeg",)


@given(st.binary(max_size=40))
def test_any_bytes_are_something_or_nothing(content: bytes) -> None:
    assert all("/" in media_type for media_type in media_types(content))


# --- files --------------------------------------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for source in (tmp_path, tmp_path / "none.png", pipe, "/dev/zero", "a\0b", "", "s3://bucket/cat.png"):
        with pytest.raises(ConfigError):
            media.image(source)


def test_the_limit_is_in_bytes(tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    with big.open("wb") as file:
        file.write(PNG)
        file.truncate(MAX_MEDIA_BYTES)
    assert media.image(big).media_type == "image/png"
    with big.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match="larger than"):
        media.image(big)
    with pytest.raises(ConfigError, match="larger than"):
        media.image(PNG + bytes(MAX_MEDIA_BYTES))


def test_text_keeps_what_it_was_called(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("# Notes\n")
    (part,) = media.attach([FilePart(str(notes), "text/markdown")])
    assert decoded(part) == ("text/markdown", b"# Notes\n")
    (part,) = media.attach([FilePart(str(notes), "application/pdf")])
    assert decoded(part)[0] == "text/plain"
    with pytest.raises(ConfigError, match="name its type"):
        media.attach([FilePart(str(notes), 'text/"quoted"')])


# --- addresses ----------------------------------------------------------------------------------------


def test_web_addresses_are_passed_on_and_not_fetched() -> None:
    address = "https://x.example/cat.jpeg?size=2"
    assert media.image(address) == ImagePart(address)
    assert media.infer_media_type(address) == "image/jpeg"
    assert media.infer_media_type("https://x.example/") == "application/octet-stream"
    for fetch in (media.load_file_bytes, media.encode_to_data_url, media.encode_to_base64, media.attachment):
        with pytest.raises(ConfigError, match="not fetched"):
            fetch(address)


@pytest.mark.parametrize(
    "source",
    [
        "data:",
        "data:image/png",
        "data:image/png,raw",
        "data:;base64,AAAA",
        "data:image;base64,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AA==AAAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAAA\n",
        "data:image/png;base64,AAAA&url=x",
        "data:image/png;base64,AAÄA",
        'data:image/png";base64,AAAA',
        "data:application/pdf;base64,AAAA",
        f"data:image/png;{'a=b;' * 80}base64,AAAA",
    ],
)
def test_data_urls_are_validated(source: str) -> None:
    assert fault_of(ImagePart(source))
    with pytest.raises(ConfigError):
        media.image(source)
    with pytest.raises(ConfigError):
        media.attach([ImagePart(source)])


def test_data_urls_are_limited_like_files() -> None:
    assert fault_of(ImagePart("data:image/png;base64," + "A" * (MAX_MEDIA_BYTES // 3 * 4))) is None
    assert "larger" in str(
        fault_of(ImagePart("data:image/png;base64," + "A" * (MAX_MEDIA_BYTES // 3 * 4 + 8)))
    )


def test_data_urls_may_have_parameters_and_capitals() -> None:
    assert media.load_file_bytes("DATA:Audio/Ogg;codecs=opus;base64,AAAA") == (b"\0\0\0", "audio/ogg")
    assert fault_of(AudioPart("data:audio/ogg;codecs=opus;base64,AAAA")) is None


def test_any_other_type_can_be_named(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    sheet.write_bytes(UNKNOWN["zip"])
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    address = media.encode_to_data_url(sheet, kind)
    assert media.load_file_bytes(address) == (UNKNOWN["zip"], kind)
    assert media.document(address).source == address
    assert media.encode_to_data_url(address) == address


# --- messages -----------------------------------------------------------------------------------------


def test_attaching_keeps_what_is_there_already() -> None:
    parts: list[Part] = [TextPart("a"), ThinkingPart("b"), ImagePart("https://x.example/a.png")]
    assert media.attach(["see", *parts]) == [TextPart("see"), *parts]
    for content in (None, "text", tuple(parts)):
        message = ChatMessage(Role.USER, content)
        assert media.attached(message) is message


def test_a_message_with_files_is_a_new_message(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    message = ChatMessage(Role.USER, [TextPart("see"), ImagePart(str(file))], name="ana")
    vars(message)["some wire"] = b"encoded with the path"
    made = media.attached(message)
    assert made == ChatMessage(Role.USER, (TextPart("see"), media.image(PNG)), name="ana")
    assert vars(made) == {}
    assert message.content == (TextPart("see"), ImagePart(str(file)))


def test_parts_of_others_can_be_refused() -> None:
    media.refuse_files([TextPart("/etc/passwd"), ImagePart("https://x.example/a.png"), media.image(PNG)])
    for source in ("/etc/passwd", "a.png", "", "file:///etc/passwd", " https://x.example"):
        with pytest.raises(ConfigError, match="names a file"):
            media.refuse_files([TextPart("a"), FilePart(source)])


def test_a_path_object_in_a_part_is_an_error_that_says_so() -> None:
    odd: Any = Path("a.png")
    with pytest.raises(ConfigError, match="not text"):
        media.attach([ImagePart(odd)])
