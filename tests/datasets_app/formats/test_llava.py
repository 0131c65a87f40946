"""Source datasets: what is read, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from adapters.backbone.spec import TINY_BASE
from datasets_app.errors import InputError
from datasets_app.formats import inspect_source, read_source
from datasets_app.formats.conversation import CONTROL_TOKENS
from tests.datasets_app.formats.folder import Folder, llava_row, routing_row


def test_yields_the_parts_of_a_row(folder: Folder) -> None:
    row = next(read_source(folder.lines(llava_row(3, metadata={"group": "visit-7"}))))
    assert (row.id, row.system, row.prompt) == ("row-3", "Answer with a tool call.", "Click the day.")
    assert row.answer.startswith("<tool_call>")
    assert row.image == folder.path / "images" / "3.png"
    assert (row.group, row.file, row.line) == ("visit-7", "data.jsonl", 1)


def test_reads_all_files_in_order_and_skips_blank_lines(folder: Folder) -> None:
    folder.lines(llava_row(2), name="b.jsonl")
    folder.lines(llava_row(0), b"", llava_row(1), name="a.jsonl")
    assert [(row.id, row.line) for row in read_source(folder.path)] == [("row-0", 1), ("row-1", 3), ("row-2", 1)]


def test_reads_a_json_list(folder: Folder) -> None:
    (folder.path / "data.json").write_text(json.dumps([llava_row(0), llava_row(1)]))
    assert [row.id for row in read_source(folder.path)] == ["row-0", "row-1"]
    (folder.path / "data.json").write_text(json.dumps([llava_row(0), llava_row(9)]))
    with pytest.raises(InputError, match=r"data\.json, item 2: image 'images/9\.png' is missing\."):
        list(read_source(folder.path))


def test_a_row_without_system_turn_or_id_is_fine(folder: Folder) -> None:
    row = llava_row(0)
    del row["id"]
    row["conversations"] = row["conversations"][1:]
    read = next(read_source(folder.lines(row)))
    assert (read.id, read.system) == ("data.jsonl:1", None)


def test_inspection_counts_rows_and_sees_every_change(folder: Folder) -> None:
    before = inspect_source(folder.lines(llava_row(0), llava_row(1)))
    assert before.rows == 2
    Image.new("RGB", (40, 30)).save(folder.path / "images" / "4.png")
    assert inspect_source(folder.path).digest != before.digest


def turns(*values: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in values]}


HUMAN, GPT = ("human", "<image>\nGo."), ("gpt", "Done.")

SPOILED: dict[str, tuple[Any, str]] = {
    "bad utf-8": (b'{"id": "\xff"}', "not valid UTF-8"),
    "half a line": (b'{"id": "x"', "not valid JSON"),
    "a list": ([1], "a list begins here: a .jsonl file holds one object a line"),
    "a text": ("a", "a JSON object is needed"),
    "an object over several lines": (b"{\n" + b'"id": "a"\n}', "the object goes on in the next line"),
    "utf-16": ('{"id": "a"}'.encode("utf-16"), "seems to be UTF-16: save it as UTF-8"),
    "nested": (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    "nan": (b'{"id": NaN}', "NaN is not valid JSON"),
    "long number": (b'{"id": ' + b"9" * 5000 + b"}", "a number is too long"),
    "same key twice": (b'{"id": "a", "id": "b"}', "a key occurs twice"),
    "huge line": (b'{"id": "' + b"x" * 2**20 + b'"}', "the line is longer than 1048576 bytes"),
    "nul": (llava_row(1, note="a\0b"), "NUL"),
    "lone surrogate": (rb'{"id": "\ud800"}', "half a surrogate pair"),
    "empty id": (llava_row(1, id=""), "field 'id'"),
    "id with newline": (llava_row(1, id="a\nb"), "field 'id'"),
    "id of a list": (llava_row(1, id=["a"]), "field 'id'"),
    "same id again": (llava_row(1, id="row-0"), "id 'row-0' occurs a second time"),
    "no image": (llava_row(1, image=None), "field 'image'"),
    "two images": (llava_row(1, image=["a.png", "b.png"]), "field 'image'"),
    "hidden image": (llava_row(1, image=".cache/1.png"), "is hidden"),
    "missing image": (llava_row(1, image="x.png"), "image 'x.png' is missing"),
    "image url": (llava_row(1, image="http://10.0.0.1/x.png"), "is a URL"),
    "data url": (llava_row(1, image="data:image/png;base64,AAAA"), "is a URL"),
    "image outside": (llava_row(1, image="../secret.png"), "outside the dataset's folder"),
    "absolute image": (llava_row(1, image="/etc/passwd"), "is an absolute path"),
    "path with a drive": (llava_row(1, image="C:/data/1.png"), "is an absolute path"),
    "backslashes": (llava_row(1, image="images\\1.png"), "has a backslash"),
    "folder as image": (llava_row(1, image="images"), "not a regular file"),
    "below a file": (llava_row(1, image="data.jsonl/x.png"), "not a usable path"),
    "endless name": (llava_row(1, image="x" * 5000), "not a usable path"),
    "no turns": (llava_row(1, conversations=[]), "the turns must be"),
    "turns of text": (llava_row(1, conversations="hi"), "field 'conversations'"),
    "turn without value": (llava_row(1, conversations=[{"from": "human"}]), "each turn needs"),
    "only a question": (llava_row(1, **turns(HUMAN)), "the turns must be"),
    "two questions": (llava_row(1, **turns(HUMAN, GPT, HUMAN, GPT)), "the turns must be"),
    "no image tag": (llava_row(1, **turns(("human", "Go."), GPT)), "exactly once, not 0 times"),
    "two image tags": (llava_row(1, **turns(("human", "<image><image>"), GPT)), "exactly once, not 2 times"),
    "tag in the answer": (llava_row(1, **turns(HUMAN, ("gpt", "<image>"))), "in the human turn only"),
    "empty answer": (llava_row(1, **turns(HUMAN, ("gpt", " "))), "the gpt turn is empty"),
    "no words": (llava_row(1, **turns(("human", " <image>\n"), GPT)), "the user's words are missing"),
    "too many words": (llava_row(1, **turns(("human", "<image>" + "x" * 16_001), GPT)), "at most 16000"),
    "control token in the answer": (
        llava_row(1, **turns(HUMAN, ("gpt", "Done.<|im_end|>"))),
        "gpt turn holds <|im_end|>",
    ),
    "control token in the system turn": (
        llava_row(1, **turns(("system", "<|image_pad|>"), HUMAN, GPT)),
        "system turn holds <|image_pad|>",
    ),
    "row of a routing dataset": (routing_row(1), "a row of a routing dataset"),
    "row of a routing dataset of numbers": (
        llava_row(1, metadata={"adapter": "calendar", "label": 0}, **turns(HUMAN, ("gpt", "0"))),
        "a row of a routing dataset",
    ),
    "metadata of text": (llava_row(1, metadata="x"), "field 'metadata'"),
    "group of lists": (llava_row(1, metadata={"group": [1]}), "field 'metadata.group'"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_wrong_row_is_named_by_file_and_line(folder: Folder, case: str) -> None:
    row, sentence = SPOILED[case]
    (folder.path.parent / "secret.png").write_bytes(b"secret")
    with pytest.raises(InputError) as caught:
        list(read_source(folder.lines(llava_row(0), row)))
    message = str(caught.value)
    assert message.startswith("data.jsonl, line 2: ")
    assert sentence in message
    assert len(message) < 400
    assert str(folder.path) not in message


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_truncated(folder: Folder) -> None:
    Image.effect_noise((200, 200), 50).save(folder.path / "images" / "1.png")
    whole = (folder.path / "images" / "1.png").read_bytes()
    (folder.path / "images" / "1.png").write_bytes(whole[: len(whole) // 2])


def write_animated(folder: Folder) -> None:
    frames = [Image.new("RGB", (40, 30), (shade, 0, 0)) for shade in (0, 100, 200)]
    frames[0].save(folder.path / "images" / "1.png", format="WEBP", save_all=True, append_images=frames[1:])


def write_link(folder: Folder) -> None:
    (folder.path / "images" / "1.png").unlink()
    (folder.path / "images" / "1.png").symlink_to("/etc/hostname")


def write_fifo(folder: Folder) -> None:
    (folder.path / "images" / "1.png").unlink()
    os.mkfifo(folder.path / "images" / "1.png")


def write_bytes(data: bytes) -> Callable[[Folder], None]:
    def write(folder: Folder) -> None:
        (folder.path / "images" / "1.png").write_bytes(data)

    return write


WEBP_BOMB = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\xff\x00" * 2

PICTURES: dict[str, tuple[Callable[[Folder], None], str]] = {
    "truncated": (write_truncated, "truncated or damaged"),
    "animated": (write_animated, "animated"),
    "link out of the folder": (write_link, "is a link that leads out of the dataset's folder"),
    "fifo": (write_fifo, "not a regular file"),
    "svg": (write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a PNG, JPEG or WEBP"),
    "gif": (write_bytes(b"GIF89a" + b"\0" * 40), "not a PNG, JPEG or WEBP"),
    "empty": (write_bytes(b""), "not a PNG, JPEG or WEBP"),
    "65535 squared": (write_bytes(png_header(65535, 65535)), "pixels; at most"),
    "10001 squared": (write_bytes(png_header(10001, 10001)), "pixels; at most"),
    "1 by 16000": (write_bytes(png_header(1, 16000)), "too narrow"),
    "webp canvas": (write_bytes(WEBP_BOMB), "pixels; at most"),
    "21 MiB": (write_bytes(b"\x89PNG" + b"\0" * 21 * 2**20), "larger than 20 MiB"),
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_wrong_picture_is_refused_without_being_decoded(folder: Folder, case: str) -> None:
    spoil, sentence = PICTURES[case]
    spoil(folder)
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        list(read_source(folder.lines(llava_row(0), llava_row(1))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith("data.jsonl, line 2: image 'images/1.png'")
    assert sentence in str(caught.value)
    assert peak < 20 * 2**20


def test_a_link_on_the_way_to_a_picture_is_called_a_link(folder: Folder) -> None:
    (folder.path / "images").rename(folder.path.parent / "elsewhere")
    (folder.path / "images").symlink_to(folder.path.parent / "elsewhere")
    with pytest.raises(InputError, match=r"image 'images/0\.png' is a link that leads out of the dataset's folder"):
        list(read_source(folder.lines(llava_row(0))))


def test_other_formats_of_picture_are_read(folder: Folder) -> None:
    for number, format in enumerate(("JPEG", "WEBP")):
        Image.new("RGB", (64, 48)).save(folder.path / "images" / f"{number}.png", format=format)
    assert len(list(read_source(folder.lines(llava_row(0), llava_row(1))))) == 2


def test_a_row_without_an_id_or_with_null_is_called_after_file_and_line(folder: Folder) -> None:
    absent = {key: value for key, value in llava_row(0).items() if key != "id"}
    rows = read_source(folder.lines(absent, llava_row(1, id=None), llava_row(2, id=7)))
    assert [row.id for row in rows] == ["data.jsonl:1", "data.jsonl:2", "7"]


def test_a_byte_order_mark_is_read_over(folder: Folder) -> None:
    marked = [codecs.BOM_UTF8 + json.dumps(llava_row(number)).encode() for number in range(2)]
    assert len(list(read_source(folder.lines(*marked)))) == 2
    (folder.path / "data.jsonl").unlink()
    (folder.path / "data.json").write_text(json.dumps([llava_row(0)]), encoding="utf-8-sig")
    assert len(list(read_source(folder.path))) == 1


def test_hidden_files_are_passed_over(folder: Folder) -> None:
    folder.lines(llava_row(0))
    before = inspect_source(folder.path)
    (folder.path / "._data.jsonl").write_bytes(b"\0\5\x16\7\xff")
    (folder.path / ".#data.jsonl").symlink_to("somebody@host.1234")
    (folder.path / "images" / ".DS_Store").write_bytes(b"\0")
    assert inspect_source(folder.path) == before


NO_LINES: dict[str, tuple[str, bytes, str]] = {
    "packed": ("data.jsonl.gz", b"\x1f\x8b", "neither a .jsonl nor a .json file, but data.jsonl.gz: unpack"),
    "another format": ("data.parquet", b"PAR1", "but data.parquet: unpack or convert"),
    "packed under another name": ("data.jsonl", gzip.compress(b"{}"), "data.jsonl is no text but gzip"),
    "capitals": ("DATA.JSONL", b"", "DATA.JSONL: write the end of the name in lower case, .jsonl"),
    "capitals of a list": ("Data.Json", b"[]", "Data.Json: write the end of the name in lower case, .json"),
    "lines in a list": ("data.json", b'{"id": "a"}\n{"id": "b"}\n', "one object a line belongs in a .jsonl file"),
    "utf-16": ("data.json", "[]".encode("utf-16"), "seems to be UTF-16"),
}


@pytest.mark.parametrize("case", NO_LINES)
def test_a_file_of_another_kind_is_called_what_it_is(folder: Folder, case: str) -> None:
    name, data, sentence = NO_LINES[case]
    (folder.path / name).write_bytes(data)
    with pytest.raises(InputError, match=re.escape(sentence)):
        list(read_source(folder.path))


def test_no_file_of_rows_is_passed_over_for_the_case_of_its_name(folder: Folder) -> None:
    folder.lines(llava_row(0))
    folder.lines(llava_row(1), name="more.JSONL")
    with pytest.raises(InputError, match="lower case"):
        list(read_source(folder.path))


def test_the_control_tokens_are_those_of_the_base() -> None:
    tokenizer = json.loads((TINY_BASE / "tokenizer.json").read_bytes())
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    assert special <= set(CONTROL_TOKENS)


def test_a_folder_without_rows_is_refused(folder: Folder) -> None:
    for path, sentence in ((folder.path / "none", "not a folder"), (folder.path, "neither a .jsonl nor a .json")):
        with pytest.raises(InputError, match=sentence):
            list(read_source(path))
    with pytest.raises(InputError, match="has no rows"):
        list(read_source(folder.lines()))
    with pytest.raises(InputError, match="format 'csv' is unknown"):
        read_source(folder.path, "csv")
