"""What the OpenAI routes take, field by field; a field that is not here is refused rather than silently left out."""

from __future__ import annotations

import codecs
import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from datasets_app.errors import InputError
from inference.engines import wire
from inference.engines.base64_text import from_base64, is_data_url
from inference.engines.chat import Chat, check_choices

DEFAULT_TOKENS = 128
MAX_TOP_LOGPROBS = 20

Body = TypeVar("Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, body: object) -> object:
        return {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else body


class ImageUrl(_Strict):
    """Where the image is: in the body."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(_Strict):
    """Words."""

    type: Literal["text"]
    text: str


class ImagePart(_Strict):
    """A screenshot."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(_Strict):
    """One turn."""

    role: Literal["system", "user"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class StreamOptions(_Strict):
    """Whether the stream's last chunk counts the tokens."""

    include_usage: bool | None = None


class StructuredOutputs(_Strict):
    """vLLM's; of its kinds the choice."""

    choice: list[str]


class Size(_Strict):
    """The least and most pixels of the screenshot, in the words of Qwen's image processor."""

    shortest_edge: int
    longest_edge: int


class ProcessorOptions(_Strict):
    """vLLM's, for the image processor."""

    size: Size | None = None


NEUTRAL: dict[str, tuple[object, ...]] = {
    "top_p": (1,),
    "top_k": (-1, 0, 1),
    "min_p": (0,),
    "min_tokens": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "echo": (False,),
    "stop": ([],),
    "stop_token_ids": ([],),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "metadata": ({},),
    "service_tier": ("auto", "default"),
}
"""What wrappers send along though it changes nothing, with the values that do not."""


class ChatBody(_Strict):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    n: Literal[1] | None = None
    seed: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    structured_outputs: StructuredOutputs | None = None
    guided_choice: list[str] | None = None
    mm_processor_kwargs: ProcessorOptions | None = None
    skip_special_tokens: Literal[False] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, body: object) -> object:
        """The body without fields that ask for nothing."""
        return {name: value for name, value in body.items() if _asks(name, value)} if isinstance(body, dict) else body

    @property
    def choices(self) -> list[str] | None:
        """What the answer is limited to, in vLLM's present form or its older one."""
        return self.structured_outputs.choice if self.structured_outputs else self.guided_choice

    def check(self) -> None:
        """InputError for what cannot be answered as asked."""
        if self.temperature not in (None, 0):
            raise InputError("Field 'temperature': answers are greedy, so it must be 0.")
        if self.choices is None:
            if self.logprobs or self.top_logprobs:
                raise InputError("Field 'logprobs': they are told of a choice only.")
            return
        if self.structured_outputs and self.guided_choice is not None:
            raise InputError("Field 'guided_choice': it says the same as 'structured_outputs', give one of them.")
        if self.stream:
            raise InputError("Field 'stream': a choice comes as a whole.")
        check_choices(self.choices)

    def chat(self) -> Chat:
        """As the engine takes it; InputError unless it is one system message at most, then one of the user's."""
        roles = [message.role for message in self.messages]
        if roles not in (["user"], ["system", "user"]):
            raise InputError("Field 'messages': give a system message, if any, and one message of the user.")
        system = "".join(_texts(message) for message in self.messages[:-1])
        before, image, after = _split(self.messages[-1])
        size = self.mm_processor_kwargs.size if self.mm_processor_kwargs else None
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return Chat(
            self.model,
            system,
            before,
            after,
            image,
            min(limits, default=DEFAULT_TOKENS),
            (size.shortest_edge, size.longest_edge) if size else None,
            self.user or "",
        )


class LoadBody(_Strict):
    """`POST /v1/load_lora_adapter`."""

    lora_name: str
    lora_path: str
    load_inplace: Literal[False] = False


class UnloadBody(_Strict):
    """`POST /v1/unload_lora_adapter`."""

    lora_name: str


def read(kind: type[Body], data: bytes) -> Body:
    """The body in `data`; InputError naming the field that is wrong."""
    try:
        return kind.model_validate_json(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] != "extra_forbidden":
            raise wire.wrong_field(error) from error
        name = ".".join(map(str, first["loc"]))[:100]
        raise InputError(f"Field {name!r} is not known here: leave it out.") from error


def _asks(name: str, value: object) -> bool:
    """Whether the field is for the model to read; an error for one of those that are not, with a value that would
    change the answer."""
    if name not in NEUTRAL or value is None:
        return True
    if any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in NEUTRAL[name]):
        return False
    allowed = " or ".join(json.dumps(one) for one in NEUTRAL[name])
    words = "Field '{name}': answers are greedy text, so leave it out, or give {allowed}"
    raise PydanticCustomError("not_neutral", words, {"name": name, "allowed": allowed})


def _texts(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    if not all(isinstance(part, TextPart) for part in message.content):
        raise InputError("Field 'messages': only the user's message may hold an image.")
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _split(message: Message) -> tuple[str, bytes, str]:
    parts = [] if isinstance(message.content, str) else message.content
    images = [number for number, part in enumerate(parts) if isinstance(part, ImagePart)]
    if len(images) != 1:
        raise InputError("Field 'messages': the user's message must hold one image.")
    texts = [part.text if isinstance(part, TextPart) else "" for part in parts]
    image = parts[images[0]]
    assert isinstance(image, ImagePart)  # noqa: S101 - the only one, found above
    return "".join(texts[: images[0]]), _image(image.image_url.url), "".join(texts[images[0] :])


def _image(url: str) -> bytes:
    if not is_data_url(url):
        raise InputError("Field 'image_url': only 'data:…;base64,…' is accepted; nothing is fetched.")
    try:
        return from_base64(url)
    except InputError as error:
        raise InputError(f"Field 'image_url': {error}") from error
