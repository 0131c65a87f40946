"""What SDKs and wrappers send to the OpenAI routes."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from datasets_app.errors import InputError
from inference.server.openai_bodies import ChatBody, read
from tests.cast import png

PNG = base64.b64encode(png()).decode()


def chat(**fields: Any) -> bytes:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": [image]}]} | fields).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {
            "top_p": 1,
            "seed": 0,
            "stop": None,
            "frequency_penalty": 0,
            "presence_penalty": 0,
            "response_format": {"type": "text"},
            "store": False,
        },
        {"top_p": 1.0, "stop": [], "tools": [], "tool_choice": "none", "logit_bias": {}, "metadata": {}},
        {"tools": None, "functions": None, "reasoning_effort": None, "logprobs": None, "stream": None},
        {"top_k": -1, "repetition_penalty": 1.0, "min_p": 0.0, "seed": 42, "service_tier": "auto"},
    ],
)
def test_fields_that_change_nothing_are_taken(fields: dict[str, Any]) -> None:
    assert read(ChatBody, chat(**fields)).chat() == read(ChatBody, chat()).chat()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"top_p": 0.9}, "Field 'top_p': answers are greedy text, so leave it out, or give 1."),
        ({"store": True}, "Field 'store': answers are greedy text, so leave it out, or give false."),
        ({"stop": ["\n"]}, "Field 'stop': answers are greedy text, so leave it out, or give []."),
        ({"response_format": {"type": "json_object"}}, 'leave it out, or give {"type": "text"}.'),
        ({"chat_template": "x"}, "Field 'chat_template' is not known here: leave it out."),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name_in_plain_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read(ChatBody, chat(**fields))


def test_a_byte_order_mark_before_the_body_is_read_over() -> None:
    assert read(ChatBody, b"\xef\xbb\xbf" + chat()) == read(ChatBody, chat())


def test_base64_in_lines_is_the_image() -> None:
    lines = "\n".join(PNG[at : at + 76] for at in range(0, len(PNG), 76))
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{lines}"}}
    body = read(ChatBody, chat(messages=[{"role": "user", "content": [image]}]))
    assert body.chat().image == png()
